    #: The database, as an SQLAlchemy URL; a SQLite path is relative to the instance folder.
    DATABASE_URL: str = Field("sqlite:///app.sqlite3", pattern=r"^\w+(\+\w+)?://")
