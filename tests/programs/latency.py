"""5. two endpoints, closed loop (32 wide), TTFT and inter-token percentiles, warm-up."""

import asyncio
import os

from llm_fanout import Endpoint, FanOut, Limits

PROMPTS = [f"Write 100 words about the number {i}." for i in range(1_000)]
URLS = {"vllm-a": os.environ["URL_A"], "vllm-b": os.environ["URL_B"]}


async def main() -> None:
    for name, url in URLS.items():
        for loop, width in [("closed", 32)]:
            endpoint = Endpoint(
                "openai/llama-3.1-8b",
                base_url=url,
                api_key="none",
                limits=Limits(max_concurrency=width, adapt=False),
            )
            async with FanOut(endpoint, max_retries=0, max_tokens=200) as fan:
                await fan.map(PROMPTS[:50], stream=True)  # warm-up: same connections, report dropped
                report = await fan.map(PROMPTS, stream=True)
            for metric in ("ttft", "inter_token", "latency"):
                print(
                    name,
                    loop,
                    metric,
                    *(f"{report.quantile(q, metric):.3f}" for q in (0.5, 0.9, 0.99)),
                    f"failed={report.summary.failed}",
                )


asyncio.run(main())
