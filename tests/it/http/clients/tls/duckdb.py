import duckdb, glob, os, sys

con = duckdb.connect()
extension, = (found for path in sys.path for found in glob.glob(f"{path}/duckdb_extension_httpfs/**/*.duckdb_extension", recursive=True))
con.execute(f"LOAD '{extension}'")
con.execute(f"SET ca_cert_file = '{os.environ['CA']}'")
con.execute(f"""CREATE SECRET (TYPE s3, KEY_ID '{os.environ["AWS_ACCESS_KEY_ID"]}', SECRET '{os.environ["AWS_SECRET_ACCESS_KEY"]}',
    REGION 'us-east-1', ENDPOINT '{os.environ["HOST"]}', URL_STYLE 'path')""")
os.mkdir(f"{os.environ['MNT']}/lake")
con.execute("COPY (SELECT n FROM range(100000) each(n)) TO 's3://lake/numbers.parquet'")
for place in [os.environ["MNT"], "s3:/"]:
    assert con.execute(f"SELECT sum(n) FROM '{place}/lake/numbers.parquet'").fetchone() == (4999950000,)
