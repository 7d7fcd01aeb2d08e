"""The pure core: decisions as arithmetic on `now`. Standard library only; no asyncio, clock, logging or I/O."""
