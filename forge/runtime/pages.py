"""free + used = total: KV memory in pages of `page_size` tokens, shared between sequences by reference counts.

A sequence's page table is a plain list of page numbers: token i lies in page `table[i // page_size]` at offset
`i % page_size`. Tables only grow, until they are released as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence

from forge.errors import UsageError

PageCopy = tuple[int, int]


class PagePool:
    """Owns every page. Invariant: a page is free, or `references(page)` tables and pending copies hold it.

    Only full pages are shared, so the page a sequence writes to is its own. A fork in the middle of a page gives the
    child a new page and a copy (source, destination) that must be carried out before the next write to any page:
    `copies` lists them and `settle` says that they are done. A pending copy holds its source, and dies with its
    destination; no page is both a source and a destination, so the copies may run in any order.
    Not thread-safe: one thread owns the pool.
    """

    def __init__(self, num_pages: int, page_size: int = 16) -> None:
        if num_pages < 1 or page_size < 1 or num_pages * page_size >= 2**31:
            raise UsageError(
                f"a pool of {num_pages} pages of {page_size} tokens is not possible",
                remedy="give at least one page of at least one token, and under 2**31 tokens in all",
            )
        self.total = num_pages
        self.page_size = page_size
        self.reset()

    def reset(self) -> None:
        """Every page is free, whoever held it."""
        self._free = list(range(self.total - 1, -1, -1))
        self._references = [0] * self.total
        self._copies: dict[int, int] = {}  # destination -> source

    @property
    def free(self) -> int:
        return len(self._free)

    @property
    def used(self) -> int:
        return self.total - len(self._free)

    @property
    def copies(self) -> list[PageCopy]:
        """Page copies (source, destination) to be done before anything else is written."""
        return [(source, destination) for destination, source in self._copies.items()]

    def references(self, page: int) -> int:
        return self._references[page]

    def pages_for(self, tokens: int) -> int:
        """Pages that `tokens` tokens occupy."""
        return -(-tokens // self.page_size)

    def allocate(self, count: int) -> list[int]:
        """`count` pages that nobody holds; the caller has checked `free`."""
        assert 0 <= count <= len(self._free), f"{count} pages asked, {len(self._free)} free"
        pages = [self._free.pop() for _ in range(count)]
        for page in pages:
            assert self._references[page] == 0, f"page {page} was free and held"
            self._references[page] = 1
        return pages

    def share(self, pages: Sequence[int]) -> None:
        """Count one more holder of each of `pages`, which are full and will not be written again."""
        for page in pages:
            assert self._references[page] > 0, f"page {page} is shared but free"
            self._references[page] += 1

    def release(self, pages: Sequence[int]) -> None:
        """Give back one hold on each page; a page without holders is free at once."""
        for page in pages:
            assert self._references[page] > 0, f"page {page} is released twice"
            self._references[page] -= 1
            if self._references[page] == 0:
                self._free.append(page)
                source = self._copies.pop(page, None)
                if source is not None:
                    self.release((source,))

    def fork_needs(self, tokens: int) -> int:
        """New pages that `fork` at `tokens` tokens takes: one for a partly filled page, else none."""
        return 1 if tokens % self.page_size else 0

    def fork(self, pages: Sequence[int], tokens: int) -> list[int]:
        """The page table of a child that continues the first `tokens` tokens of `pages`.

        Full pages are shared; a partly filled last one is a new page and a pending copy. Needs `fork_needs` free pages.
        """
        full = tokens // self.page_size
        table = list(pages[:full])
        self.share(table)
        if tokens % self.page_size:
            # A source that itself awaits a copy has nothing in it yet: copy from where its tokens come from.
            source = self._copies.get(pages[full], pages[full])
            self.share((source,))
            (destination,) = self.allocate(1)
            self._copies[destination] = source
            table.append(destination)
        return table

    def settle(self) -> None:
        """The pending copies are done."""
        sources = list(self._copies.values())
        self._copies.clear()
        self.release(sources)
