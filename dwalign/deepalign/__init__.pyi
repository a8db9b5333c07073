from dwalign.deepalign.aligner import Aligner as Aligner, deep_align as deep_align
from dwalign.deepalign.build import (
    describe as describe,
    fit_aligner as fit_aligner,
    init_variables as init_variables,
    load_aligner as load_aligner,
    make_model as make_model,
)
from dwalign.deepalign.checkpoints import CheckpointError as CheckpointError, Checkpoints as Checkpoints
from dwalign.deepalign.choice import (
    Choice as Choice,
    as_method as as_method,
    choose_method as choose_method,
    why_unfit as why_unfit,
)
from dwalign.deepalign.model import DeepAlign as DeepAlign
from dwalign.deepalign.search import (
    Untied as Untied,
    begin_search as begin_search,
    make_search as make_search,
    untie as untie,
)
from dwalign.deepalign.settings import (
    AlignerConfig as AlignerConfig,
    LossWeights as LossWeights,
    Optimisation as Optimisation,
)
from dwalign.deepalign.shipped import (
    SHIPPED as SHIPPED,
    Shipped as Shipped,
    read_shipped as read_shipped,
    write_shipped as write_shipped,
)
from dwalign.deepalign.step import (
    METRICS as METRICS,
    Targets as Targets,
    TrainState as TrainState,
    device_mesh as device_mesh,
    init_state as init_state,
    make_step as make_step,
)
from dwalign.deepalign.targets import find_targets as find_targets
from dwalign.deepalign.training import Trained as Trained, train_aligner as train_aligner
