"""`python -m experiments`: the catalogue of programs."""

from experiments.harness.programs import catalogue


def main() -> None:
    print("Experiments, each with its own --help:\n")
    for name, about in catalogue().items():
        print(f"  python -m experiments.{name}")
        print(f"      {about.what} ({about.paper})")
        print(f"      {about.cost}; {about.expected}\n")


if __name__ == "__main__":
    main()
