"""Two endpoints, closed loop: time to first token, between tokens, and in all, after a warm-up on the same connections."""

from llm_fanout import Endpoint, FanOut, Limits, Report
from llm_fanout.results import Metric

METRICS: tuple[Metric, ...] = ("ttft", "inter_token", "latency")
PROMPTS = [f"Write 100 words about the number {number}." for number in range(60)]


async def main(urls: dict[str, str]) -> list[str]:
    """One line for each server and metric."""
    lines = []
    for name, url in urls.items():
        endpoint = Endpoint(
            "openai/llama-3.1-8b", base_url=url, api_key="none", limits=Limits(max_concurrency=32, adapt=False)
        )
        async with FanOut(endpoint, max_retries=0, max_tokens=200) as fan:
            await fan.map(PROMPTS[:10], stream=True)  # warm-up: same connections, report dropped
            report: Report[str] = await fan.map(PROMPTS, stream=True)
        for metric in METRICS:
            figures = " ".join(f"{report.quantile(q, metric):.3f}" for q in (0.5, 0.9, 0.99))
            lines.append(f"{name} {metric} {figures} failed={report.summary.failed}")
    return lines
