"""Every stream of random numbers of the programs, by name.

A stream is one integer below a parent; two streams of one parent differ, which a test
checks. The integers never change, since they decide published numbers.
"""

# Streams of a run's key: `jax.random.fold_in(state.key, STREAM)`. `vaejax.training`
# takes 0 to 2 of the same key: initial parameters, noise, order of the data.
EPOCH_EVALUATION = 100  # ELBO of test and validation examples after every epoch
FINAL_EVALUATION = 101  # ELBO, NLL and active units at the end of a run
FIGURES = 102  # figures, sounds and texts of a run
UNITS_BY_KL = 103  # draws behind the KL of each latent at the end of a run
MORE_SAMPLES = 104  # NLL of a few test examples with ten times the samples
ANNEALING = 105  # annealed NLL of a few test examples
ANNEALING_PILOT = 106  # its pilot run
ANNEALING_SIMULATED = 107  # its examples drawn from the model
VERDICT = 108  # draws of z behind what the latents say of each column
IMAGE_MEASURES = 200  # calibrated_decoders: bits, errors and detail
MUTUAL_INFORMATION = 300  # collapse: mutual information of x and z
KL_TO_POSTERIOR = 400  # bounds: KL to the posterior after every epoch
BOUNDS = 401  # bounds: every bound of the trained model
STATISTICS = 500  # digit_factors, disentangle: statistics of the codes
FACTOR_ELBO = 501  # disentangle: ELBO at beta 1
SAMPLE_SETS = 600  # sample_quality: sets of decoded images
GALLERY = 700  # gallery: samples and codes
PAGE = 701  # explore: samples and codes
IMPUTATION = 800  # mixed_tables: hidden cells of test rows
LEVELS = 1000  # hierarchies: KL of each level
GRADIENT_NOISE = 950  # discrete_latents: gradients drawn again and again
CODES = 951  # vq: draws and training of the prior over codes

# Keys of images that are binarized once, the same for every run whatever its seed:
# `jax.random.key(STREAM)`, and one key per image from there.
TEST_SET = 777  # test images
VALIDATION_SET = 778  # validation images
TRAINING_SET = 779  # training images, where they are binarized once too

# Keys of choices that are the same for every run, `jax.random.key(STREAM)`.
ANNEALED_EXAMPLES = 780  # which test examples are annealed

# Keys of judges, `jax.random.key(STREAM)`: not distinct from the others, since key(0)
# is also that of the run of seed 0, and key(778) that of VALIDATION_SET.
CLASSIFIER = 0  # parameters and order of the data of the classifier
FACTOR_SCORES = 778  # votes and forests of the scores of disentanglement

# Seeds of data, `numpy.random.default_rng(SEED)`.
RENDERED_SHAPES = 0  # colored shapes
CLIPS = 2  # synthesized clips; clip i has the seed [CLIPS, i]
FACTOR_TEST = 777  # images with factors that the ELBO is measured on
FACTOR_SCORED = 778  # images with factors whose codes are scored
TABLE_SPLIT = 3  # mixed_tables: which rows, or groups of rows, are for test
HIDDEN_CELLS = 4  # mixed_tables: which cells are hidden

# Simulated counts, `numpy.random.default_rng([CELLS, index])`: genes, cells and missed
# counts. It is not distinct from TABLE_SPLIT, of other data.
CELLS = 3

# Seeds of methods on the host, `numpy.random.default_rng(SEED)` or `random_state`.
PHASES = 0  # first phases of the Griffin-Lim algorithm
PROBES = 0  # clusters and maps of codes
TABLE_DENSITIES = 0  # places of discrete values, under Gaussians and mixtures of them

# What the test compares: the streams of each parent, by name.
PARENTS = {
    "key of a run": (
        "EPOCH_EVALUATION",
        "FINAL_EVALUATION",
        "FIGURES",
        "UNITS_BY_KL",
        "MORE_SAMPLES",
        "ANNEALING",
        "ANNEALING_PILOT",
        "ANNEALING_SIMULATED",
        "VERDICT",
        "IMAGE_MEASURES",
        "MUTUAL_INFORMATION",
        "KL_TO_POSTERIOR",
        "BOUNDS",
        "STATISTICS",
        "FACTOR_ELBO",
        "SAMPLE_SETS",
        "GALLERY",
        "PAGE",
        "IMPUTATION",
        "LEVELS",
        "GRADIENT_NOISE",
        "CODES",
    ),
    "the same for every run": (
        "TEST_SET",
        "VALIDATION_SET",
        "TRAINING_SET",
        "ANNEALED_EXAMPLES",
    ),
    "classifier": ("CLASSIFIER",),
    "scores of factors": ("FACTOR_SCORES",),
    "data": (
        "RENDERED_SHAPES",
        "CLIPS",
        "FACTOR_TEST",
        "FACTOR_SCORED",
        "TABLE_SPLIT",
        "HIDDEN_CELLS",
    ),
    "simulated counts": ("CELLS",),
    "phases": ("PHASES",),
    "probes": ("PROBES",),
    "densities of tables": ("TABLE_DENSITIES",),
}
