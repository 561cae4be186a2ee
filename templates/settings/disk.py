    #: The folder of the cache's database, absolute or in the instance folder.
    CACHE_DIR: str = Field("cache", min_length=1)
    #: Seconds to wait while another process writes.
    CACHE_DISK_TIMEOUT: float = Field(0.25, gt=0)
    #: Maximum number of entries; beyond it the least recently used are evicted.
    CACHE_THRESHOLD: int = Field(10_000, ge=1)
