// BullMQ on Redis.
"use strict";

const { concurrency, defaults, drive, env, run } = require("./driving.cjs");
const { Queue, Worker } = require("bullmq");

const connection = () => ({ url: env.PEER_REDIS_URL, maxRetriesPerRequest: null });

async function producer() {
  const defaultJobOptions = defaults ? {} : { removeOnComplete: true };
  const queue = new Queue("peer", { connection: connection(), defaultJobOptions });
  return {
    one: (n) => queue.add("job", { n }),
    many: (numbers) => queue.addBulk(numbers.map((n) => ({ name: "job", data: { n } }))),
    manyAtATime: 1_000,
    close: () => queue.close(),
  };
}

function worker() {
  const worker = new Worker("peer", (job) => run(job.data.n), { connection: connection(), concurrency: concurrency(100) });
  worker.on("error", (error) => console.error(error));
}

drive({ prepare: async () => {}, producer, worker });
