// graphile-worker on PostgreSQL; the variant `plain` leaves its local queue and its batches out.
"use strict";

const { concurrency, defaults, drive, env, run } = require("./driving.cjs");
const { Logger, makeWorkerUtils, run: runWorker, runMigrations } = require("graphile-worker");

const connectionString = env.PEER_DATABASE_URL;
const warnings = new Logger(() => (level, message) => {
  if (level === "error" || level === "warning") console.error(message);
});

async function producer() {
  const utils = await makeWorkerUtils({ connectionString, logger: warnings });
  return {
    one: (n) => utils.addJob("job", { n }),
    many: (numbers) => utils.addJobs(numbers.map((n) => ({ identifier: "job", payload: { n } }))),
    manyAtATime: 5_000,
    close: () => utils.release(),
  };
}

async function worker() {
  const plain = defaults || env.PEER_VARIANT === "plain";
  const concurrentJobs = concurrency(24);
  const fast = { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 };
  const preset = { worker: { connectionString, concurrentJobs, maxPoolSize: 24, logger: warnings, ...(plain ? {} : fast) } };
  const runner = await runWorker({ preset, taskList: { job: ({ n }) => run(n) } });
  await runner.promise;
}

drive({ prepare: () => runMigrations({ connectionString, logger: warnings }), producer, worker });
