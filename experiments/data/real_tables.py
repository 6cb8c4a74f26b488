"""Real tables that other packages ship: nothing is downloaded.

Each is a matrix in the units that a model sees, with the kinds of its columns. Rows of
one group, such as a family, belong on one side of a split.

randhie and anes96 come with statsmodels and are in the public domain. wine (Forina et
al., PARVUS) and breast_cancer (Wolberg, Street and Mangasarian 1995) come with
scikit-learn, as copies of sets of the UCI Machine Learning Repository, which lists both
under CC BY 4.0.
"""

import dataclasses
import importlib.util
import types
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from experiments.harness import keys
from experiments.harness.errors import UsageError
from vaejax import datasets

TEST_SHARE = 0.2


class RealTable(NamedTuple):
    """Rows of a table, before kinds are found.

    Attributes:
      values: float64 `[rows, columns]`.
      names: names of the columns.
      kinds: kinds that are given, by name; `vaejax.datasets.read_table` finds the
        others.
      groups: number of the group of each row, `[rows]`.
      limits: smallest and largest value that a real column can have, by name.
    """

    values: np.ndarray
    names: list[str]
    kinds: Mapping[str, str]
    groups: np.ndarray
    limits: Mapping[str, tuple[float, float]] = types.MappingProxyType({})

    def read(self) -> datasets.Table:
        """Return the rows with the schema of their columns."""
        table = datasets.read_table(self.values, names=self.names, kinds=self.kinds)
        columns = [
            dataclasses.replace(
                column, **dict(zip(("lower", "upper"), limits, strict=True))
            )
            if (limits := self.limits.get(column.name))
            else column
            for column in table.schema.columns
        ]
        return table._replace(schema=datasets.Schema(tuple(columns)))


def load(name: str) -> RealTable:
    """Return the table of a name of `TABLES`.

    Raises:
      UsageError: the package that ships it is not installed.
    """
    package, make = TABLES[name]
    if importlib.util.find_spec(package) is None:
        raise UsageError(
            f"--data {name} is part of {package.replace('sklearn', 'scikit-learn')}, "
            "which is not installed; install the extra: pip install 'vaejax[studies]'."
        )
    return make()


def split(groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers of the training and of the test rows, by groups, for every seed.

    A fifth of the rows, or a few more, are test rows.
    """
    names, sizes = np.unique(groups, return_counts=True)
    order = np.random.default_rng(keys.TABLE_SPLIT).permutation(len(names))
    before = np.cumsum(sizes[order]) - sizes[order]
    held_out = names[order][before < TEST_SHARE * len(groups)]
    is_test = np.isin(groups, held_out)
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


def hidden(shape: tuple[int, ...], share: float) -> np.ndarray:
    """Return which cells are hidden: those of a smaller share are among them."""
    rng = np.random.default_rng(keys.HIDDEN_CELLS)
    return rng.uniform(size=shape) < share


def _of_statsmodels(name: str) -> dict[str, np.ndarray]:
    from statsmodels import datasets as shipped

    frame = getattr(shipped, name).load_pandas().data
    return {column: np.asarray(frame[column], np.float64) for column in frame}


def _runs(rows: np.ndarray) -> np.ndarray:
    """Return the number of the run of equal rows that each row is in."""
    return np.cumsum(np.r_[False, (rows[1:] != rows[:-1]).any(axis=1)])


def _randhie() -> RealTable:
    """The RAND Health Insurance Experiment, one row for each run of equal covariates.

    The file has a row per person and year, in which little beside the visits differs:
    of consecutive rows whose other columns are equal the first is kept. Consecutive
    rows under one plan are taken for a family. Logarithms and the index of diseases are
    rounded to 0.1, and `physlm`, which holds imputed shares below 0.2, to 0 and 1.
    """
    file = _of_statsmodels("randhie")
    plan = np.stack([file[name] for name in ("lncoins", "idp", "lpi", "fmde")], axis=1)
    others = np.stack([file[name] for name in file if name != "mdvis"], axis=1)
    first = np.unique(_runs(others), return_index=True)[1]
    columns = {
        "visits": (file["mdvis"], "count"),
        "coinsurance": (np.rint(np.expm1(file["lncoins"])), "ordinal"),
        "individual_deductible": (file["idp"], "binary"),
        "log_incentive": (np.round(file["lpi"], 1), "real"),
        "log_maximum": (np.round(file["fmde"], 1), "real"),
        "limitation": (np.rint(file["physlm"]), "binary"),
        "diseases": (np.round(file["disea"], 1), "real"),
        "health": (file["hlthg"] + 2 * file["hlthf"] + 3 * file["hlthp"], "ordinal"),
    }
    limits = dict.fromkeys(("log_incentive", "log_maximum", "diseases"), (0, np.inf))
    return _table(columns, _runs(plan), first)._replace(limits=limits)


def _anes96() -> RealTable:
    """The American National Election Study of 1996."""
    file = _of_statsmodels("anes96")
    kinds = dict.fromkeys(
        ("TVnews", "selfLR", "ClinLR", "DoleLR", "PID", "educ"), "ordinal"
    )
    kinds |= {"popul": "count", "age": "real", "income": "real", "vote": "binary"}
    columns = {name: (file[name], kind) for name, kind in kinds.items()}
    limits = {"income": (1, 24)}
    return _table(columns, np.arange(len(file["age"])))._replace(limits=limits)


def _table(
    columns: Mapping[str, tuple[np.ndarray, str]],
    groups: np.ndarray,
    rows: np.ndarray | slice = slice(None),
) -> RealTable:
    values = np.stack([cells for cells, _ in columns.values()], axis=1)
    kinds = {name: kind for name, (_, kind) in columns.items()}
    return RealTable(values[rows], list(columns), kinds, groups[rows])


def _of_scikit_learn(name: str, label: str, kind: str) -> RealTable:
    """Measurements, whose kinds are found from their values, and the class."""
    from sklearn import datasets as shipped

    bunch = getattr(shipped, f"load_{name}")()
    values = np.column_stack([bunch.data, bunch.target]).astype(np.float64)
    names = [*map(str, bunch.feature_names), label]
    return RealTable(values, names, {label: kind}, np.arange(len(values)))


#: Package and maker of each table, by the name that `--data` takes.
TABLES: Mapping[str, tuple[str, Callable[[], RealTable]]] = {
    "randhie": ("statsmodels", _randhie),
    "anes96": ("statsmodels", _anes96),
    "wine": ("sklearn", lambda: _of_scikit_learn("wine", "cultivar", "class")),
    "breast_cancer": (
        "sklearn",
        lambda: _of_scikit_learn("breast_cancer", "is_benign", "binary"),
    ),
}
