from dwalign import (
    apply as apply,
    assignment as assignment,
    deepalign as deepalign,
    encoders as encoders,
    evaluation as evaluation,
    files as files,
    frontends as frontends,
    many as many,
    matching as matching,
    merging as merging,
    networks as networks,
    program as program,
    report as report,
    symmetry as symmetry,
    zoo as zoo,
)

# those of dwalign.apply know the aligner's method, too
from dwalign.apply import (
    align as align,
    chain as chain,
    choose_method as choose_method,
    distance as distance,
    find_method as find_method,
    interpolate as interpolate,
    known_methods as known_methods,
    merge as merge,
)
from dwalign.deepalign import (
    Aligner as Aligner,
    AlignerConfig as AlignerConfig,
    deep_align as deep_align,
    fit_aligner as fit_aligner,
    load_aligner as load_aligner,
)
from dwalign.evaluation import curve as curve
from dwalign.files import load_params as load_params, save_params as save_params
from dwalign.frontends import from_model as from_model, into_model as into_model
from dwalign.many import align_many as align_many, open_alignments as open_alignments
from dwalign.matching import (
    Method as Method,
    activation_matching as activation_matching,
    activation_matching_correlation as activation_matching_correlation,
    anchored_matching as anchored_matching,
    feature_matching as feature_matching,
    method as method,
    naive as naive,
    refine as refine,
    sinkhorn_rebasin as sinkhorn_rebasin,
    straight_through as straight_through,
    weight_matching as weight_matching,
)
from dwalign.merging import (
    Merged as Merged,
    align_unequal as align_unequal,
    average as average,
    embed as embed,
    merge_many as merge_many,
    repair as repair,
    reset_statistics as reset_statistics,
)
from dwalign.program import (
    CLASSIFICATION as CLASSIFICATION,
    REGRESSION as REGRESSION,
    Certificate as Certificate,
    CertificateError as CertificateError,
    Data as Data,
    InferenceError as InferenceError,
    Network as Network,
    Task as Task,
    certify as certify,
    fold_norms as fold_norms,
    infer_spec as infer_spec,
    make_capture as make_capture,
    network as network,
)
from dwalign.symmetry import (
    Alignment as Alignment,
    Axes as Axes,
    PermutationSpec as PermutationSpec,
    SpecError as SpecError,
    canonical as canonical,
    compose as compose,
    gauge as gauge,
    identity as identity,
    inverse as inverse,
    permute as permute,
    random_perms as random_perms,
)

__version__: str
