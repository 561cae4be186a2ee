    #: The folder of the cache's database, absolute or in the instance folder.
    CACHE_DIR: str = Field("cache", min_length=1)
    #: The most seconds to wait while another process writes.
    CACHE_DISK_TIMEOUT: float = Field(0.25, gt=0)
    #: The most entries to keep; beyond it the least recently used go.
    CACHE_THRESHOLD: int = Field(10_000, ge=1)
