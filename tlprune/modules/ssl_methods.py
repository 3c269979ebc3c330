"""Self-supervised methods of LitSSL: projection head, default sizes, temperature and weight decay of each."""

from dataclasses import dataclass

from tlprune.errors import InputError, require_within

__all__ = ["METHODS", "SSLMethod"]

_WIDER = 4
"""Width of VICReg's projection head over that of the features: 8192 for ResNet-50, as in its paper."""


@dataclass(frozen=True)
class SSLMethod:
    """Self-supervised method, with the values that its paper uses where options do not set others.

    Args:
        name: Name of the method.
        head: Class of the projection head in :mod:`lightly.models.modules.heads`.
        temperature: Temperature of the loss; None for a loss without one.
        decay_all: Whether weight decay also applies to biases and normalisation layers.
        hidden_dim: Size of the hidden layers of the projection head; None for four times the width of the features.
        output_dim: Size of the projection; None for four times the width of the features.
    """

    name: str
    head: str
    temperature: float | None
    decay_all: bool
    hidden_dim: int | None = 2048
    output_dim: int | None = 128

    @classmethod
    def named(cls, name: str) -> "SSLMethod":
        """Returns the method of a name.

        Raises:
            InputError: There is no such method.
        """
        if name not in METHODS:
            *others, last = (repr(known) for known in METHODS)
            raise InputError(f"`method` must be {', '.join(others)} or {last}, got {name!r}")
        return METHODS[name]

    def temperature_or(self, given: float | None) -> float | None:
        """Returns the given temperature, or else that of the method.

        Args:
            given: Temperature; None for that of the method.

        Raises:
            InputError: The temperature is not above 0, or the loss of the method has none.
        """
        if given is None:
            return self.temperature
        if self.temperature is None:
            raise InputError(f"`temperature` does not apply to method {self.name!r}, got {given}: its loss has none")
        if not given > 0:
            raise InputError(f"`temperature` must be above 0, got {given}")
        return given

    def sizes(self, num_features: int, hidden_dim: int | None, output_dim: int | None) -> tuple[int, int]:
        """Returns the sizes of the hidden layers and of the output of the projection head.

        Args:
            num_features: Width of the features.
            hidden_dim: Size of the hidden layers; None for that of the method.
            output_dim: Size of the projection; None for that of the method.

        Raises:
            InputError: A size is below 1.
        """
        for name, size in (("hidden_dim", hidden_dim), ("output_dim", output_dim)):
            if size is not None:
                require_within(name, size, 1)
        wide = _WIDER * num_features
        return hidden_dim or self.hidden_dim or wide, output_dim or self.output_dim or wide


METHODS = {
    method.name: method
    for method in (
        SSLMethod("simclr", "SimCLRProjectionHead", temperature=0.5, decay_all=False),
        SSLMethod("moco", "MoCoProjectionHead", temperature=0.2, decay_all=True),
        SSLMethod("vicreg", "VICRegProjectionHead", None, decay_all=False, hidden_dim=None, output_dim=None),
    )
}
"""Methods by name. Each has a step of its own in :class:`tlprune.modules.ssl.LitSSL`."""
