"""Options of the stage `nerf`."""

from __future__ import annotations

from dataclasses import dataclass

from nerf.fields import FieldOptions
from nerf.radiance import RadianceOptions
from utils.options import option


@dataclass(frozen=True)
class NerfOptions(FieldOptions, RadianceOptions):
    """How the field is trained."""

    train_binocular: bool = option(False, "train on the images of both eyes")
    seed: int = option(0, "seed of everything random: the same seed repeats the run")
    N_rand: int = option(2048, "rays a step")
    N_iters: int = option(2000, "steps")
    N_samples: int = option(8, "samples a ray")
    free_samples: float = option(0.25, "share of the samples that ignores the prior and covers the whole ray")
    perturb: float = option(1.0, "0: samples stand in the middle of their strata instead of jittering")
    lrate: float | None = option(None, "learning rate; default 0.02 for planes and hash, 5e-4 for mlp")
    lrate_decay: float | None = option(None, "a tenth after so many thousand steps; default: 0.03 at the end")
    mask_guide_sample_rate: float = option(0.4, "share of rays drawn by importance; 0 switches guidance off")
    no_depth_sampling: bool = option(False, "sample uniformly along the ray instead of around the prior")
    near: float = option(0.01, "smallest relative half-width of the sampling interval around the prior")
    far: float = option(0.1, "largest relative half-width of the sampling interval around the prior")
    depth_loss_weight: float = option(10.0, "weight of the depth loss; 0 switches it off")
    distortion_loss_weight: float = option(0.0, "weight of the loss on spread-out weights along a ray")
    highlight_weight: float = option(1.0, "weight of highlights in the colour loss")
    no_depth_refine: bool = option(False, "never replace the prior by rendered depth")
    depth_refine_start: int = option(400, "step of the first refinement")
    depth_refine_period: int = option(600, "steps between refinements")
    depth_refine_rounds: int = option(2, "number of refinements; 0 switches them off")
    depth_refine_quantile: float = option(0.5, "worst share of what still disagrees that is smoothed")
    refine_poses: bool = option(
        False, "correct the poses of the cameras, and of the eyes to each other, while training"
    )
    ft_path: str = option(
        "", "start from another training: its folder nerf, or the field.safetensors or checkpoint.pt in it"
    )
    device: str = option("auto", "auto, cpu or cuda")
    i_print: int = option(250, "steps between lines in train.csv and the log", affects_result=False)
    i_weights: int = option(250, "steps between checkpoints", affects_result=False)

    @property
    def guided(self) -> bool:
        """Whether samples follow the prior."""
        return not self.no_depth_sampling and self.mask_guide_sample_rate > 0

    @property
    def sample_counts(self) -> tuple[int, int]:
        """How many samples follow the prior, and how many cover the whole ray."""
        if not self.guided:
            return 0, self.N_samples
        free = max(1, round(self.free_samples * self.N_samples)) if self.free_samples > 0 else 0
        return self.N_samples - free, free

    @property
    def refine_rounds(self) -> int:
        """How many refinements there are."""
        return 0 if self.no_depth_refine else self.depth_refine_rounds

    def refine_round_after(self, step: int) -> int | None:
        """Return the number of the refinement that follows a step (counted from 1), or None."""
        since = step - self.depth_refine_start
        if since < 0 or since % self.depth_refine_period:
            return None
        number = since // self.depth_refine_period + 1
        return number if number <= self.refine_rounds else None
