"""The steps of `linear` for a few dozen tokens: how K is split, whether x is put in order first, and the launches."""

from __future__ import annotations

from forge.graph.types import tensor
from forge.kernels.device.tile import operand
from forge.kernels.linear import halves
from forge.kernels.linear.tall import linear_tall, sum_parts, turned_columns
from forge.language import cdiv, interpreted, next_power_of_2
from forge.quant import format_of


def _parts(call, config):
    """Parts that K is split into: about PER_UNIT programs a compute unit, none of under four blocks."""
    n, k = call.types[1].concrete()
    wanted = cdiv(config["PER_UNIT"] * call.target.compute_units, cdiv(n, config["BLOCK_N"]))
    most = max(1, k // (4 * config["BLOCK_K"]))
    return min(next_power_of_2(wanted), 1 << most.bit_length() - 1, 8)


def _in_pairs(target, config):
    """Whether the matrix units take pairs of columns that lie apart in a word: tiles of whole groups of warps."""
    return target.warp_groups and config["BLOCK_N"] >= 64 and config["num_warps"] % 4 == 0


def _turns(target, config, form, tokens):
    """Whether x is put in the order of these pairs first: it is, where many programs read much of it."""
    return _in_pairs(target, config) and not form.plain and tokens > 16


def _block_k(config, form):
    """Columns of a block, of which one word of each run makes whole products where upper bits lie apart."""
    return max(config["BLOCK_K"], 128) if form.high else config["BLOCK_K"]


def workspace(call, config):
    """x turned f16[T,K'], and the parts of y f32[parts,T,N]; each of no row where there is none."""
    (t, k), (n, _), form = call.types[0].concrete(), call.types[1].concrete(), format_of(call.types[1].dtype)
    parts, block = _parts(call, config), _block_k(config, form)
    turned = t if _turns(call.target, config, form, t) else 0
    width = cdiv(k, parts * block) * parts * block
    return tensor("f16", turned, width), tensor("f32", parts if parts > 1 else 0, t, n)


def products(site, y, turned, x, w, bias):
    """The steps of x w^T to y [T,N], or to parts of it [parts,T,N]; x is put in order first where `turned` has rows."""
    (t, n), k, splits = y.shape[-2:], w.shape[1], 1 if y.dim() == 2 else y.shape[0]
    planes, form = operand(w)
    block = _block_k(site.config, form)
    pairs = _in_pairs(site.target, site.config)
    packed = site.target.backend == "cuda" and not form.plain and not interpreted()
    how = halves.packed(form, pairs) if packed else halves.plain(pairs)
    steps = []
    if turned.shape[0]:
        width = turned.shape[1]
        args, grid = (turned, x, x.stride(0), width), (t, cdiv(width, site["BLOCK"]))
        steps.append(site.launch(turned_columns, grid, *args, K=k, W=form, BLOCK_K=block))
        x = turned
    sizes = dict(K=k, W=form, HALVES=how, BLOCK_T=max(16, next_power_of_2(t)), BLOCK_K=block, SPLITS=splits)
    sizes["TURNED"] = bool(turned.shape[0])
    args = (y, x, planes, bias, t, n, x.stride(0))
    return [*steps, site.launch(linear_tall, (cdiv(n, site["BLOCK_N"]), splits), *args, **sizes)]


def sum_of(site, y, parts, bias):
    """The step that adds the parts."""
    args = (y, parts, bias, y.shape[1], y.numel())
    return site.launch(sum_parts, (cdiv(y.numel(), site["BLOCK"]),), *args, SPLITS=parts.shape[0])
