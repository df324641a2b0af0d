-- A store as version 1 wrote it.
BEGIN TRANSACTION;
CREATE TABLE events (
	run_id VARCHAR NOT NULL, 
	seq INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	kind VARCHAR NOT NULL, 
	stage VARCHAR, 
	level VARCHAR, 
	step INTEGER, 
	line TEXT NOT NULL, 
	PRIMARY KEY (run_id, seq)
)
 WITHOUT ROWID

;
INSERT INTO "events" VALUES('20260102-030405-aaaa',1,1,'RunStateChanged',NULL,NULL,NULL,'{"seq": 1, "attempt": 1, "ts": 1767323046.0, "kind": "RunStateChanged", "state": "running", "reason": "", "error": null}');
INSERT INTO "events" VALUES('20260102-030405-aaaa',2,1,'Progress','teacher',NULL,1,'{"seq": 2, "attempt": 1, "ts": 1767323047.5, "kind": "Progress", "stage": "teacher", "step": 1, "total_steps": 2, "unit": "steps", "loss": 0.75, "values": {"lr": 0.001}}');
INSERT INTO "events" VALUES('20260102-030405-aaaa',3,1,'Log','teacher','warning',NULL,'{"seq": 3, "attempt": 1, "ts": 1767323048.5, "kind": "Log", "stage": "teacher", "level": "warning", "message": "it''s “slow”"}');
CREATE TABLE runs (
	run_id VARCHAR NOT NULL, 
	folder VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	task VARCHAR NOT NULL, 
	pipeline VARCHAR NOT NULL, 
	state VARCHAR NOT NULL, 
	origin VARCHAR NOT NULL, 
	model_name VARCHAR, 
	recipe JSON NOT NULL, 
	attempt INTEGER NOT NULL, 
	created VARCHAR NOT NULL, 
	started VARCHAR, 
	finished VARCHAR, 
	updated VARCHAR NOT NULL, 
	error JSON, 
	summary JSON NOT NULL, 
	worker_pid INTEGER, 
	worker_started FLOAT, 
	lease_until FLOAT, 
	seq INTEGER NOT NULL, 
	"offset" INTEGER NOT NULL, 
	queued_at FLOAT, 
	deleted_at FLOAT, 
	PRIMARY KEY (run_id)
);
INSERT INTO "runs" VALUES('20260102-030405-aaaa','reviews','reviews','text-classification','kd_prune_quant','succeeded','server',NULL,'{"name": "reviews", "teacher": {"model": "scratch:tiny"}}',1,'2026-01-02T03:04:05.000+00:00','2026-01-02T03:04:06+00:00','2026-01-02T03:09:00+00:00','2026-01-02T03:09:00+00:00',NULL,'{"score": 0.875, "score_name": "f1_macro", "smaller": 4.5}',NULL,NULL,NULL,3,400,NULL,NULL);
INSERT INTO "runs" VALUES('20260103-000000-bbbb','/elsewhere/digits','digits','image-classification','kd_only','failed','cli',NULL,'{"name": "digits"}',0,'2026-01-03T00:00:00.000+00:00',NULL,NULL,'2026-01-02T03:09:00+00:00','{"message": "the loss is not finite", "hint": "a lower lr", "exit_code": 1}','{}',NULL,NULL,NULL,0,0,NULL,1767398400.0);
CREATE TABLE uploads (
	upload_id VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	path VARCHAR NOT NULL, 
	bytes INTEGER NOT NULL, 
	created VARCHAR NOT NULL, 
	facts JSON NOT NULL, 
	PRIMARY KEY (upload_id)
);
INSERT INTO "uploads" VALUES('cccc','table','a.csv','.lessen/uploads/cccc/a.csv',12,'2026-01-02T00:00:00+00:00','{"rows": 2}');
CREATE INDEX ix_runs_created ON runs (created);
CREATE INDEX ix_runs_state ON runs (state);
CREATE INDEX events_by_kind ON events (run_id, kind, seq);
COMMIT;
PRAGMA user_version = 1;
