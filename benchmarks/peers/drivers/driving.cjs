// What both Node drivers share: the run log, the ways of enqueueing, the command line. See driving.py, which it follows.
"use strict";

const fs = require("node:fs");
const { setTimeout: sleep } = require("node:timers/promises");

const env = process.env;
const jobMs = Number(env.PEER_JOB_MS || 0);
const defaults = Boolean(env.PEER_CONCURRENCY);
const file = fs.openSync(env.PEER_RUN_LOG || "/dev/null", "a");
const pid = String(process.pid).padStart(7, "0");

const nowUs = () => Number(process.hrtime.bigint() / 1000n);

function append(what, n) {
  fs.writeSync(file, `${what}${String(n).padStart(6, "0")} ${pid} ${String(nowUs()).padStart(13, "0")}\n`);
}

/** The body of every job. */
async function run(n) {
  append("S", n);
  if (jobMs) {
    await sleep(jobMs);
    append("E", n);
  }
}

async function timed(work) {
  const began = process.hrtime.bigint();
  await work();
  return { seconds: Number(process.hrtime.bigint() - began) / 1e9 };
}

const ways = {
  async one(producer, count, first = 0) {
    return timed(async () => {
      for (let n = first; n < first + count; n++) await producer.one(n);
    });
  },
  async concurrent(producer, count, callers) {
    await producer.one(0);
    let next = 1;
    const caller = async () => {
      while (next <= count) await producer.one(next++);
    };
    return timed(() => Promise.all(Array.from({ length: callers }, caller)));
  },
  async bulk(producer, count) {
    return timed(async () => {
      for (let start = 0; start < count; start += producer.manyAtATime) {
        const size = Math.min(producer.manyAtATime, count - start);
        await producer.many(Array.from({ length: size }, (_, i) => start + i));
      }
    });
  },
  async fill(producer, count) {
    return ways.bulk(producer, count);
  },
  async steady(producer, perS, seconds) {
    const sent_us = [];
    const calls = [];
    const began = nowUs();
    for (let n = 0; n < perS * seconds; n++) {
      const early = began + (n * 1e6) / perS - nowUs();
      if (early > 0) await sleep(early / 1000);
      sent_us.push(nowUs());
      calls.push(producer.one(n));
    }
    await Promise.all(calls);
    return { sent_us };
  },
};

/** Do what the command line says and print one line of JSON; `worker` runs until it is ended. */
async function drive({ prepare, producer, worker }) {
  const [what, ...numbers] = process.argv.slice(2);
  if (what === "worker") return worker();
  let answer = {};
  if (what === "prepare") {
    await prepare();
  } else {
    const opened = await producer();
    answer = await ways[what](opened, ...numbers.map(Number));
    await opened.close();
  }
  console.log(JSON.stringify(answer));
}

/** How many jobs a worker runs at a time: `best` when speed is measured. */
const concurrency = (best) => Number(env.PEER_CONCURRENCY || best);

module.exports = { concurrency, defaults, drive, env, run };
