    #: The database, as a SQLAlchemy URL; a SQLite path is in the instance folder.
    DATABASE_URL: str = Field("sqlite:///app.sqlite3", pattern=r"^\w+(\+\w+)?://")
