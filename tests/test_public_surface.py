"""The public names: few at the top, none hides a module, each old one is accounted for.

`OLD_TOP` and `OLD_MODULES` are the names before the packages (`vaejax.__all__`, and
what the modules defined without a leading underscore). CHANGELOG.md says where each
has gone.
"""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import vaejax

OLD_TOP = """
    MLP VAE AggregateDecomposition AnnealedEstimate AnnealingState Autoregressive
    Bernoulli BidirectionalEstimate Categorical CausalConvolutionDecoder
    CodeStatistics ContinuousBernoulli ConvolutionalDecoder ConvolutionalEncoder
    CovarianceTerms DiscrepancyTerms DiscretizedLogistic DiscretizedLogisticMixture
    DiscretizedNormal DiscriminatorTerms Distribution ElboTerms Estimate Exported
    GatedMLP Head InferenceGap IwaeTerms KlFn Laplace Latents MarginalEstimate
    Moments NegativeBinomial Neighbours Network Normal Poisson RecurrentDecoder
    RecurrentEncoder ResidualDecoder ResidualEncoder Sentence StepMetrics StudentT
    TotalCorrelationTerms TrainState active_units adapt_step_sizes
    aggregate_decomposition anneal annealed_estimate annealed_importance_sampling
    as_network attribute_direction beta_tcvae_loss bidirectional_monte_carlo
    binarize bits_per_dimension capacity categorical_head chain code_statistics
    covariance_of_aggregate covariance_of_means dip_vae_loss
    discretized_logistic_head discretized_logistic_mixture_head
    discretized_normal_head drop_words elbo_terms export embed factor_vae_loss
    fixed_variance_normal_head free_bits gaussian_kernel gaussian_vae
    hamiltonian_transition inference_gap info_vae_loss init_annealing
    init_reverse_annealing init_train_state interpolate
    inverse_multiquadratic_kernel jackknife kl_closed_form kl_divergence
    kl_monte_carlo kl_per_dimension kl_sticking_the_landing laplace_head
    linear_spacing load_exported log_marginal log_weight log_weights loss_of_means
    make_train_epoch make_train_step manifold maximum_mean_discrepancy
    mean_over_batch minibatch_stratified minibatch_weighted nearest
    negative_binomial_head negative_dreg negative_elbo negative_iwae negative_miwae
    negative_piwae negative_renyi normal_head optimal_posterior optimal_variance
    pareto_k permute_dimensions poisson_head posterior_moments reconstruct
    reparameterize reverse_anneal reverse_annealed_estimate
    reverse_annealed_importance_sampling sample sequence_vae
    shared_variance_normal_head shift sigmoidal_spacing simple_head soft_bounds
    start_at_posterior start_at_prior student_t_head traverse with_compute_dtype
    with_discriminator with_initial_outputs with_transform
"""
OLD_MODULES = """
    aggregate: Draws draw_batch mean_elbo_terms minibatch_weighted
        minibatch_stratified TotalCorrelationTerms beta_tcvae_loss Estimate
        AggregateDecomposition aggregate_decomposition
    annealing: AnnealedEstimate BidirectionalEstimate annealed_estimate
        reverse_annealed_estimate adapt_step_sizes annealed_importance_sampling
        reverse_annealed_importance_sampling bidirectional_monte_carlo
    arrays: NotOneArrayError Description describe_array check_numbers check_suits
        load_array split
    base: Array Key PyTree Params Example Latent Event Distribution require VAE
        Latents Support Head KlFn is_key batch_size_of check_count
    checkpoints: CheckpointMismatchError save steps latest restore digest describe
    codes: Moments CodeStatistics Neighbours posterior_moments code_statistics
        attribute_direction nearest
    convolutions: Convolution DownConvolution UpConvolution ConvolutionalEncoder
        ConvolutionalDecoder ResidualBlock ResidualEncoder ResidualDecoder halvings
        check_image_shape
    counts: COUNTS Poisson NegativeBinomial stirling_rest poisson_head
        negative_binomial_head
    datasets: CATALOGUE Dataset load from_array describe checksum binarize
    discrepancies: Kernel CovarianceTerms covariance_of_means
        covariance_of_aggregate dip_vae_loss gaussian_kernel
        inverse_multiquadratic_kernel maximum_mean_discrepancy DiscrepancyTerms
        info_vae_loss
    discriminators: DiscriminatorTerms with_discriminator permute_dimensions
        factor_vae_loss
    disentanglement: Score MutualInformationGap mutual_information_gap Modularity
        modularity SeparatedAttributePredictability balanced_threshold_accuracy
        squared_correlation sap check_table generator_of
    distributions: REAL BINARY CLASSES reparameterize Normal SampleThenLogProb
        Bernoulli Categorical check_event kl_divergence no_parameters simple_head
        draw_around log1mexp soft_bounds normal_head fixed_variance_normal_head
        shared_variance_normal_head check_bounds categorical_head as_head
    estimators: MarginalEstimate log_marginal InferenceGap optimal_posterior
        inference_gap active_units
    exporting: FORMAT PROGRAMS PLATFORMS Exported export load_exported
    hamiltonian: hamiltonian_transition
    importance: negative_miwae negative_piwae negative_renyi negative_dreg
    informativeness: Informativeness Importances ImportanceScores
        dci_from_importances gradient_boosted_importances random_forest_importances
        lasso_importances DCI dci
    interventions: Interventions interventions_of_table FactorVaeScore
        factor_vae_score BetaVaeScore beta_vae_score InterventionalRobustness
        interventional_robustness
    latent: Readout mean mode draw sample linear spherical reconstruct interpolate
        traverse shift manifold embed values complete
    likelihoods: INTENSITIES ContinuousBernoulli Laplace StudentT laplace_head
        student_t_head with_initial_outputs support_of HEADS
    models: gaussian_vae sequence_vae with_compute_dtype
    modifiers: start_average with_average averaged Stopping start_stopping
        update_stopping freeze_stopped best
    networks: Network as_network chain MLP GatedMLP
    objectives: ElboTerms IwaeTerms kl_closed_form kl_monte_carlo
        kl_sticking_the_landing kl_per_dimension elbo_terms negative_elbo log_weight
        log_weight_from log_weight_at log_weights negative_iwae log_mean_exp
        iwae_terms with_transform mean_over_batch loss_of_means free_bits capacity
        optimal_variance
    own_data: LAYOUTS chunks first_wrong open_npz open_npy load_npz is_folder
        load_folder check_images check_labels
    pixels: LEVELS PIXELS DiscretizedLogistic DiscretizedLogisticMixture
        DiscretizedNormal discretized_logistic_head
        discretized_logistic_mixture_head discretized_normal_head bits_per_dimension
    plots: COLOURS tile image_grid curves heatmaps matrix bars animation
        of_one_length histograms scatter
    prepared: Arrays DataUnavailableError data_dir load cached read_cache
        write_cache find_files verify parse read_digests check_reachable unavailable
        describe_files
    sample_quality: PrecisionRecall DensityCoverage frechet_distance
        precision_recall density_coverage expected_coverage
    schedules: warm_up logistic_warm_up cyclical
    sequences: END Sentence as_sentence inside drop_words Autoregressive GRU
        RecurrentEncoder RecurrentDecoder CausalConvolutionDecoder
    sharding: BATCH make_mesh batch_sharding replicated fully_sharded put gather
    sources: Splits File Source parse_idx SOURCES
    streaming: make_streamed_epoch
    tempering: InitialFn Spacing AnnealingState start_at_prior start_at_posterior
        linear_spacing sigmoidal_spacing Path make_path init_annealing
        init_reverse_annealing anneal reverse_anneal
    text: Vocabulary Tokens load byte_vocabulary subword_vocabulary tokenize
        detokenize
    tfds_builders: Images build read_directory read load_stock
    training: TrainState StepMetrics init_train_state make_train_step
        steps_per_epoch epoch_order make_train_epoch
    weights: mean_with_error tail_size pareto_k pareto_k_of_tail jackknife
"""
# Modules that are public without being packages.
PUBLIC_MODULES = {"base", "exporting"}


def public_modules():
    return [
        f"vaejax.{module.name}"
        for module in pkgutil.iter_modules(vaejax.__path__)
        if module.ispkg or module.name in PUBLIC_MODULES
    ]


def names_of(module):
    return importlib.import_module(module).__all__


def test_the_top_has_few_names():
    assert len(vaejax.__all__) <= 50


@pytest.mark.parametrize("module", ["vaejax", *public_modules()])
def test_public_names_exist_and_are_sorted_out(module):
    names = names_of(module)
    assert len(set(names)) == len(names)
    assert [name for name in names if name.startswith("_")] == []
    for name in names:
        getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("package", ["vaejax", *public_modules()])
def test_no_public_name_equals_a_module_of_its_package(package):
    paths = getattr(importlib.import_module(package), "__path__", [])
    modules = {module.name for module in pkgutil.iter_modules(paths)}
    assert not modules & set(names_of(package))


def test_names_at_the_top_are_all_listed():
    names = {
        name
        for name, value in vars(vaejax).items()
        if not inspect.ismodule(value) and not name.startswith("_")
    }
    assert names - {"TYPE_CHECKING", "Any"} == set(vaejax.__all__)


def changelog_rows(heading):
    """The rows of the table below a heading of CHANGELOG.md, as lists of code spans."""
    text = (Path(__file__).parent.parent / "CHANGELOG.md").read_text()
    section = text.split(f"### {heading}\n")[1].split("\n#")[0]
    rows = [line.split("|")[1:-1] for line in section.splitlines() if line[:2] == "| "]
    return [[re.findall(r"`([^`]+)`", cell) for cell in row] for row in rows[1:]]


RENAMED = {old: new for (old,), (new,) in changelog_rows("Names")}
MOVED = {old: (new, gone) for (old,), new, gone in changelog_rows("Modules")}


def is_public(path):
    module, _, name = path.rpartition(".")
    return module in ["vaejax", *public_modules()] and name in names_of(module)


@pytest.mark.parametrize("old", OLD_TOP.split())
def test_every_old_name_of_the_top_is_there_or_in_the_changelog(old):
    assert (old in vaejax.__all__) != (f"vaejax.{old}" in RENAMED)


@pytest.mark.parametrize(
    "line", re.findall(r"^    \w[^:]*:(?:.|\n {8})*", OLD_MODULES, re.M)
)
def test_every_old_name_of_a_module_is_there_or_in_the_changelog(line):
    module, _, names = line.strip().partition(":")
    packages, private = MOVED.get(f"vaejax.{module}", ([f"vaejax.{module}"], []))
    for name in names.split():
        moved = any(is_public(f"{package}.{name}") for package in packages)
        renamed = f"vaejax.{module}.{name}" in RENAMED
        assert moved or renamed or name in private, name
        assert not (name in private and renamed), name


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_renamed_names_are_at_their_new_places_only(old, new):
    assert is_public(new)
    assert not is_public(old)
