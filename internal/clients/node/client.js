// The Node family. The contract of all client programs is in the Go package's doc.go.
"use strict";

process.env.KAFKAJS_NO_PARTITIONER_WARNING = "1";
const { Kafka, CompressionTypes, logLevel } = require("kafkajs");

const [command, ...rest] = process.argv.slice(2);
const flags = {};
for (let i = 0; i + 1 < rest.length; i += 2) flags[rest[i].slice(2)] = rest[i + 1];

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");

const kafka = new Kafka({
  clientId: "braid-test",
  brokers: (flags.bootstrap || "").split(","),
  logLevel: logLevel.ERROR,
  logCreator: () => ({ log }) => process.stderr.write(JSON.stringify(log) + "\n"),
  retry: { initialRetryTime: 50, maxRetryTime: 500, retries: 100 },
});

async function produce() {
  const count = Number(flags.count);
  const rate = Number(flags.rate);
  const partitions = Number(flags.partitions);
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 });
  await producer.connect();
  const start = Date.now();
  for (let i = 0; i < count; ) {
    // Each send takes what is due: the client sends one request at a time.
    let due = rate > 0 ? Math.floor(((Date.now() - start) / 1000) * rate) + 1 : i + 100;
    due = Math.min(due, count, i + 100);
    if (due <= i) {
      await new Promise((done) => setTimeout(done, 2));
      continue;
    }
    const messages = [];
    for (; i < due; i++) {
      const partition = i % partitions;
      messages.push({ partition, value: `${flags.producer}/${partition}/${Math.floor(i / partitions)}` });
    }
    const answers = await producer.send({
      topic: flags.topic,
      acks: -1,
      compression: CompressionTypes.None,
      messages,
    });
    for (const a of answers) {
      // One batch for each partition: its offsets follow its base offset.
      let offset = BigInt(a.baseOffset);
      for (const m of messages) {
        if (m.partition !== a.partition) continue;
        say({ partition: m.partition, offset: Number(offset), value: m.value });
        if (offset >= 0n) offset++;
      }
    }
  }
  await producer.disconnect();
}

async function consume() {
  const consumer = kafka.consumer({ groupId: flags.group, sessionTimeout: 10000, heartbeatInterval: 500 });
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) =>
    say({ assigned: payload.memberAssignment[flags.topic] || [] }),
  );
  process.on("SIGTERM", () => consumer.disconnect().then(() => process.exit(0), () => process.exit(1)));
  await consumer.connect();
  await consumer.subscribe({ topics: [flags.topic], fromBeginning: true });
  await consumer.run({
    autoCommitInterval: 1000,
    eachMessage: async ({ partition, message }) =>
      say({ partition, offset: Number(message.offset), value: message.value.toString() }),
  });
}

const run = { produce, consume }[command];
if (!run) {
  process.stderr.write("usage: produce|consume --flag value ...\n");
  process.exit(2);
}
run().catch((e) => {
  process.stderr.write(`${e.stack}\n`);
  process.exit(1);
});
