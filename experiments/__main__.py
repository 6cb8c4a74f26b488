"""`python -m experiments`: the catalogue of programs."""

from experiments.harness import output
from experiments.harness.programs import catalogue


def main() -> None:
    print("Experiments, each with its own --help:\n")
    for name, about in catalogue().items():
        print(f"  python -m experiments.{name}")
        paper = f" ({about.paper})" if about.paper else ""
        print(f"      {about.what}{paper}")
        print(f"      {'; '.join(filter(None, (about.cost, about.expected)))}\n")


if __name__ == "__main__":
    with output.lenient():
        main()
