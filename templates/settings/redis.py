    #: The server: redis://, rediss:// for TLS, or unix:// and a path.
    CACHE_REDIS_URL: str = Field(
        "redis://127.0.0.1:6379/0", pattern=r"^(redis|rediss|valkey|valkeys|unix)://"
    )
    #: Seconds to wait for the server before it counts as unavailable.
    CACHE_REDIS_TIMEOUT: float = Field(0.25, gt=0)

    _can_be_read = field_validator("CACHE_REDIS_URL")(backend.check_url)
