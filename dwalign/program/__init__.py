from dwalign.program.capture import Units, make_capture
from dwalign.program.certificate import Certificate, CertificateError, accepts, certify, drawn_elements
from dwalign.program.data import count_examples, take_examples
from dwalign.program.double import widen
from dwalign.program.inference import InferenceError, infer_spec
from dwalign.program.interpret import interpret
from dwalign.program.trial import Trial, examine, trials

__all__ = [
    "Certificate",
    "CertificateError",
    "InferenceError",
    "Trial",
    "Units",
    "accepts",
    "certify",
    "count_examples",
    "drawn_elements",
    "examine",
    "infer_spec",
    "interpret",
    "make_capture",
    "take_examples",
    "trials",
    "widen",
]
