"""What takes the steps of a training: a network with its losses, and the optimisers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor
from torch.optim import Optimizer

from pipeline_src.methods.common.network import AudioVisualModel
from pipeline_src.methods.common.objective import Objective
from pipeline_src.train.average import WeightAverage
from pipeline_src.train.guard import StepGuard


@dataclass(frozen=True)
class Learner:
    """A network that is trained, and all that its steps change.

    Args:
        objective: the network and its losses.
        forward: computes the losses of a pass: ``objective``, or that under DDP.
        optimizers: one per pass of the objective, each over all parameters it trains.
        guard: keeps bad steps from being taken.
        average: the sum of weights that becomes the result; without steps the last weights do.
        is_mixed: whether the passes run under bfloat16 autocast.
    """

    objective: Objective
    forward: Callable[..., dict[str, Tensor]]
    optimizers: Mapping[str, Optimizer]
    guard: StepGuard = field(default_factory=StepGuard)
    average: WeightAverage = field(default_factory=WeightAverage)
    is_mixed: bool = False

    @property
    def model(self) -> AudioVisualModel:
        """The network itself."""
        return self.objective.model
