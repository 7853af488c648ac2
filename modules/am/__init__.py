"""Agent models ("AMs"): what an agent infers of the others, as an extra input of its policy.

Every one of them is a module with `output_size`, `init_hidden`, `infer` (one step, while acting), `unroll` (whole
episodes at once), `save_models` and `load_models`.
"""

from utils.registry import Registry

REGISTRY = Registry("agent model", {"none": "modules.am.none_am:NoneAM", "omg": "modules.am.omg_am:OMGAM"})
