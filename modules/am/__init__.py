"""Agent models ("AMs"): what an agent infers of the others, as an extra input of its policy.

Every one of them is a module with `output_size`, `init_hidden`, `infer` (one step, while acting), `unroll` (whole
episodes at once), `encode` and `loss` (learning from what `unroll` also reads), `save_models` and `load_models`.
"""

from utils.registry import Registry

REGISTRY = Registry(
    "agent model",
    {
        "none": "modules.am.none_am:NoneAM",
        "base": "modules.am.base_am:BaseAM",
        "liam": "modules.am.liam_am:LIAMAM",
        "omg": "modules.am.omg_am:OMGAM",
    },
)
