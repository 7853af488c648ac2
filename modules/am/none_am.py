"""No agent model: the policy acts on its own observations alone."""

import torch as th

from components.episode_buffer import ALL, EpisodeBatch, Episodes, Scheme
from modules.am.agent_model import AgentModel, Loss
from modules.network import Outputs
from utils.dict2namedtuple import Args
from utils.transfer import StepIndex


class NoneAM(AgentModel):
    """An agent model whose features have width zero, and that learns and saves nothing."""

    output_size = 0

    def __init__(self, scheme: Scheme, args: Args):
        super().__init__()
        self.args = args

    def init_hidden(self) -> th.Tensor:
        return th.zeros(1, 0, device=self.args.device)

    def build_inputs(self, batch: EpisodeBatch, bs: Episodes = ALL, ts: slice = ALL) -> th.Tensor:
        return batch["obs"][bs, ts, :, :0].to(self.args.device)

    def forward(self, inputs: th.Tensor, hidden: th.Tensor) -> Outputs:
        return inputs, hidden

    def features(self, outputs: th.Tensor, is_drawn: bool = False, generator: th.Generator | None = None) -> th.Tensor:
        return outputs

    def loss(self, batch: EpisodeBatch, outputs: th.Tensor, played: StepIndex) -> Loss:
        return outputs.sum(), {}
