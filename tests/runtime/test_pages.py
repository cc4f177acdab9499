"""PagePool: pages are conserved, held by count, and copied when a fork splits one."""

from __future__ import annotations

import pytest

from forge.errors import UsageError
from forge.runtime.pages import PagePool

pytestmark = pytest.mark.null


def test_pages_are_given_once_and_come_back() -> None:
    pool = PagePool(5, 4)
    first, second = pool.allocate(3), pool.allocate(2)
    assert sorted(first + second) == list(range(5))
    assert (pool.free, pool.used) == (0, 5)
    pool.release(first)
    assert (pool.free, pool.used) == (3, 2)
    assert sorted(pool.allocate(3)) == sorted(first)


def test_more_than_free_and_double_release_are_our_own_errors() -> None:
    pool = PagePool(2, 4)
    pages = pool.allocate(2)
    with pytest.raises(AssertionError):
        pool.allocate(1)
    pool.release(pages)
    with pytest.raises(AssertionError):
        pool.release(pages[:1])
    with pytest.raises(AssertionError):
        pool.share(pages[:1])


def test_fork_at_a_page_border_shares_and_copies_nothing() -> None:
    pool = PagePool(4, 4)
    parent = pool.allocate(3)
    child = pool.fork(parent, 8)
    assert child == parent[:2] and pool.copies == [] and pool.free == 1
    assert [pool.references(p) for p in parent] == [2, 2, 1]
    pool.release(parent)
    assert pool.free == 2
    pool.release(child)
    assert pool.free == 4


def test_fork_inside_a_page_copies_it_and_holds_the_source_until_settled() -> None:
    pool = PagePool(4, 4)
    parent = pool.allocate(2)
    child = pool.fork(parent, 6)
    assert child[0] == parent[0] and child[1] not in parent
    assert pool.copies == [(parent[1], child[1])]
    pool.release(parent)
    assert pool.references(parent[1]) == 1, "the copy still reads it"
    pool.settle()
    assert pool.references(parent[1]) == 0 and pool.copies == [] and pool.free == 2
    pool.release(child)
    assert pool.free == 4


def test_a_pending_copy_dies_with_its_destination() -> None:
    pool = PagePool(4, 4)
    parent = pool.allocate(1)
    child = pool.fork(parent, 3)
    pool.release(parent)
    pool.release(child)
    assert pool.copies == [] and pool.free == 4
    pool.settle()
    assert pool.free == 4


def test_fork_of_a_fork_copies_from_where_the_tokens_are() -> None:
    pool = PagePool(6, 4)
    parent = pool.allocate(1)
    child = pool.fork(parent, 3)
    grandchild = pool.fork(child, 2)
    assert set(pool.copies) == {(parent[0], child[0]), (parent[0], grandchild[0])}
    pool.release(child)
    pool.settle()
    assert pool.references(parent[0]) == 1 and pool.free == 4


@pytest.mark.parametrize(("pages", "size"), [(0, 16), (4, 0), (2**27, 16)])
def test_impossible_pools_are_refused(pages: int, size: int) -> None:
    with pytest.raises(UsageError, match=str(pages)):
        PagePool(pages, size)


def test_pages_for() -> None:
    pool = PagePool(4, 16)
    assert [pool.pages_for(n) for n in (0, 1, 16, 17)] == [0, 1, 1, 2]
