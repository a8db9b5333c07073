"""How networks are trained; nothing is loaded for it, so that a command line can show it at once."""

from typing import Any

from dwalign.bounds import Count, Positive, Share, Strength, settings


@settings
class Recipe:
    """How every network of a zoo is trained, by AdamW."""

    epochs: Count = 40
    batch_size: Count = 64
    learning_rate: Positive = 2e-3
    weight_decay: Strength = 1e-4
    warm_up: Share | None = None
    """the share of the steps in which the learning rate rises from zero, to fall to zero along a cosine in the others;
    None keeps it constant."""

    def rate(self, steps: int) -> Any:
        """The learning rate of so many steps, a number or a schedule of optax."""
        if self.warm_up is None:
            return self.learning_rate
        import optax

        rise = max(1, round(self.warm_up * steps))
        return optax.warmup_cosine_decay_schedule(0.0, self.learning_rate, rise, max(steps, rise + 1))
