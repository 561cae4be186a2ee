    #: Maximum number of entries; beyond it the least recently used are evicted.
    CACHE_THRESHOLD: int = Field(1000, ge=1)
