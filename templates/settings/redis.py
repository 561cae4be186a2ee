    #: The server: redis://, rediss:// for TLS, or unix:// and a path.
    CACHE_REDIS_URL: str = Field(
        "redis://127.0.0.1:6379/0",
        pattern=r"^(redis|rediss|valkey|valkeys|unix)://",
        examples=["redis://:password@cache.example.com:6379/0"],
    )
    #: Seconds to wait for the server before it counts as unavailable.
    CACHE_REDIS_TIMEOUT: float = Field(0.25, gt=0)

    @field_validator("CACHE_REDIS_URL")
    @classmethod
    def _can_be_read(cls, value: str) -> str:
        return backend.check_url(value)
