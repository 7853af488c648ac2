"""Transforms that derive one field of an `EpisodeBatch` from another.

`components/episode_buffer.py` applies them on read, so that derived fields are never stored.
"""

import torch as th


class Transform:
    """One field in, one field out; the leading dimensions stay as they are."""

    def transform(self, tensor: th.Tensor) -> th.Tensor:
        raise NotImplementedError

    def infer_output_info(self, vshape_in: tuple[int, ...], dtype_in: th.dtype) -> tuple[tuple[int, ...], th.dtype]:
        """Returns the shape and the dtype of one entry after the transform."""
        raise NotImplementedError


class OneHot(Transform):
    """Indices [..., 1] below `out_dim` to float one-hot vectors [..., out_dim]."""

    def __init__(self, out_dim: int):
        self.out_dim = out_dim

    def transform(self, tensor: th.Tensor) -> th.Tensor:
        one_hot = th.zeros(*tensor.shape[:-1], self.out_dim, device=tensor.device)
        return one_hot.scatter_(-1, tensor.long(), 1.0)

    def infer_output_info(self, vshape_in: tuple[int, ...], dtype_in: th.dtype) -> tuple[tuple[int, ...], th.dtype]:
        return (self.out_dim,), th.float32
