"""4. 2,000 pages -> page notes -> chapter (under a context limit) -> glossary first -> book."""

import asyncio
from collections.abc import Sequence

from llm_fanout import Executor, FanOut, Limits, Task


def join(parts: Sequence[str]) -> str:
    return "Merge these notes:\n\n" + "\n\n".join(parts)


async def main(chapters: dict[str, list[str]]) -> str:
    async with FanOut("openai/gpt-5-mini", limits=Limits(tpm=2_000_000)) as fan, fan.scope("book", journal="book.db"):

        async def chapter(pages: list[str], glossary: str) -> str:
            notes = fan.map(pages, instructions=f"Summarise the page. Glossary:\n{glossary}")
            return (await fan.reduce(notes, join, context=100_000)).value  # folds as notes arrive, a tree as deep as needed

        async def glossary(pages: list[str]) -> str:
            return (await fan.call("List the terms:\n" + "\n".join(pages))).value

        async def book(summaries: Sequence[str]) -> str:
            return (await fan.reduce(summaries, join, context=100_000)).value

        terms = Task(glossary, chapters["introduction"])
        parts = [Task(chapter, pages, terms) for pages in chapters.values()]
        whole = Task(book, parts)  # a list of tasks is a dependency on each
        report = await Executor(max_concurrency=1_000).run([terms, *parts, whole])
        return report[-1].value  # typed str; raises why, if it was skipped


async def plain(
    fan: FanOut, chapters: dict[str, list[str]]
) -> str:  # the same without Task: nested awaits are already a DAG
    glossary = (await fan.call("List the terms:\n" + "\n".join(chapters["introduction"]))).value

    async def one(pages: list[str]) -> str:
        return (await fan.reduce(fan.map(pages, instructions=glossary), join, context=100_000)).value

    return (await fan.reduce(await asyncio.gather(*map(one, chapters.values())), join, context=100_000)).value
