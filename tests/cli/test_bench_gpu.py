"""`forge bench` on a GPU: the engine beside its step's graph, and rates of the device at hand."""

from __future__ import annotations

import pytest
import torch

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]


def test_a_step_s_graph_is_no_slower_than_the_engine(forge):
    flags = ("-p", "0", "-n", "64", "-d", "0,300", "--seqs", "1,4", "-r", "3", "--graph", "--target", "gpu")
    found = forge("bench", "model", *flags, "-o", "json").json
    assert found["copy_gbps"] > 100 and found["product_tflops"] > 10 and found["product_of"] == "f16"
    assert len(found["rows"]) == 4
    for row in found["rows"]:
        assert 0.1 < row["share_of_graph"] < 1.05, row
        assert 0 < row["share_of_limit"] < 1, row


def test_latency_of_several_requests(forge):
    flags = ("-p", "64", "-n", "16", "--requests", "12", "--concurrency", "4", "--target", "gpu")
    (row,) = forge("bench", "latency", *flags, "-o", "json").json["rows"]
    assert 0 < row["between_ms"]["p50"] <= row["between_ms"]["p99"] < row["whole_ms"]["max"]
