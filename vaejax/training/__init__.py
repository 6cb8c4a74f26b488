"""Training as a pure function of (key, step): state, step, epoch, and modifiers.

Training sees only a `loss_fn(params, key, batch)`. Read `steps.py` first, then
`epochs.py`; `fit` is the loop around them, and `check_data` judges data before it.
Schedules, averaging, early stopping, streaming (data that exceed the memory) and
sharding (many devices) are independent additions.
"""

from vaejax.training.averaging import averaged_state, init_average, with_average
from vaejax.training.checks import check_data
from vaejax.training.early_stopping import (
    EarlyStoppingState,
    best_state,
    has_stopped,
    init_early_stopping,
    update_early_stopping,
    with_early_stopping,
)
from vaejax.training.epochs import (
    TrainEpoch,
    epoch_order,
    make_train_epoch,
    steps_per_epoch,
)
from vaejax.training.fitting import DataCheck, EpochCallback, fit
from vaejax.training.non_finite import (
    NonFiniteError,
    SkippedSteps,
    init_skipped_steps,
    with_skipped_steps,
)
from vaejax.training.records import EpochRecord
from vaejax.training.schedules import Schedule, cyclical, logistic_warm_up, warm_up
from vaejax.training.sharding import (
    batch_sharding,
    fully_sharded,
    gather_from_devices,
    make_mesh,
    place_on_devices,
    replicated_sharding,
)
from vaejax.training.steps import (
    StepMetrics,
    TrainState,
    init_train_state,
    make_train_step,
)
from vaejax.training.streaming import (
    StreamedEpoch,
    StreamedStep,
    make_streamed_epoch,
)

__all__ = [
    "DataCheck",
    "EarlyStoppingState",
    "EpochCallback",
    "EpochRecord",
    "NonFiniteError",
    "Schedule",
    "SkippedSteps",
    "StepMetrics",
    "StreamedEpoch",
    "StreamedStep",
    "TrainEpoch",
    "TrainState",
    "averaged_state",
    "batch_sharding",
    "best_state",
    "check_data",
    "cyclical",
    "epoch_order",
    "fit",
    "fully_sharded",
    "gather_from_devices",
    "has_stopped",
    "init_average",
    "init_early_stopping",
    "init_skipped_steps",
    "init_train_state",
    "logistic_warm_up",
    "make_mesh",
    "make_streamed_epoch",
    "make_train_epoch",
    "make_train_step",
    "place_on_devices",
    "replicated_sharding",
    "steps_per_epoch",
    "update_early_stopping",
    "warm_up",
    "with_average",
    "with_early_stopping",
    "with_skipped_steps",
]
