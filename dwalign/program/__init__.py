from dwalign.program.averaged import on_average
from dwalign.program.capture import Units, make_capture
from dwalign.program.certificate import Certificate, CertificateError, accepts, certify, drawn_elements
from dwalign.program.compiled import compiled
from dwalign.program.data import (
    Data,
    as_arrays,
    as_data,
    as_examples,
    check_data,
    check_values,
    count_examples,
    shapes_of,
    take_examples,
)
from dwalign.program.double import widen
from dwalign.program.folding import fold_norms
from dwalign.program.inference import InferenceError, infer_spec
from dwalign.program.interpret import interpret
from dwalign.program.network import Network, check_network, network, spec_of
from dwalign.program.task import (
    ANSWERS,
    CLASSIFICATION,
    REGRESSION,
    Task,
    as_logits,
    check_inputs,
    check_task,
    correct,
    cross_entropy,
    log_loss,
    mean_squared_error,
    outputs_of,
    within,
)
from dwalign.program.together import together
from dwalign.program.trial import Trial, examine, trials

__all__ = [
    "ANSWERS",
    "CLASSIFICATION",
    "Certificate",
    "CertificateError",
    "Data",
    "InferenceError",
    "Network",
    "REGRESSION",
    "Task",
    "Trial",
    "Units",
    "accepts",
    "as_arrays",
    "as_data",
    "as_examples",
    "as_logits",
    "certify",
    "check_data",
    "check_inputs",
    "check_network",
    "check_task",
    "check_values",
    "outputs_of",
    "compiled",
    "correct",
    "count_examples",
    "cross_entropy",
    "drawn_elements",
    "examine",
    "fold_norms",
    "infer_spec",
    "interpret",
    "log_loss",
    "make_capture",
    "mean_squared_error",
    "network",
    "on_average",
    "shapes_of",
    "spec_of",
    "take_examples",
    "together",
    "trials",
    "widen",
    "within",
]
