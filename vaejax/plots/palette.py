"""The colors of all figures."""

#: Seven colors told apart by readers with any color vision (Okabe & Ito 2008).
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
