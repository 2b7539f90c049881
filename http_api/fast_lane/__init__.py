"""The commonest requests, served without aiohttp's request machinery."""
