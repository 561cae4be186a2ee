    #: The most entries to keep; one more drops the least recently used.
    CACHE_THRESHOLD: int = Field(1000, ge=1)
