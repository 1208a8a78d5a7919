// kafkajs against secured listeners: one round of records for each case. The cases are JSON on
// stdin, one a line, and answered as by python/secure.py.
"use strict";

process.env.KAFKAJS_NO_PARTITIONER_WARNING = "1";
const fs = require("fs");
const { randomUUID } = require("crypto");
const { Kafka, logLevel } = require("kafkajs");

const count = 5;

async function round(c) {
  const ssl = { ca: [fs.readFileSync(c.ca)] };
  if (c.cert) Object.assign(ssl, { cert: fs.readFileSync(c.cert), key: fs.readFileSync(c.key) });
  let sasl;
  if (c.token) sasl = { mechanism: "oauthbearer", oauthBearerProvider: async () => ({ value: c.token }) };
  else if (c.mechanism) sasl = { mechanism: c.mechanism.toLowerCase(), username: c.username, password: c.password };
  const kafka = new Kafka({
    clientId: "secure", brokers: [c.bootstrap], ssl, sasl, logLevel: logLevel.NOTHING,
    connectionTimeout: 30000, authenticationTimeout: 30000, retry: c.fails ? { retries: 0 } : { retries: 20, maxRetryTime: 1000 },
  });
  const values = new Set(Array.from({ length: count }, () => randomUUID()));
  const producer = kafka.producer();
  await producer.connect();
  await producer.send({ topic: c.topic, messages: [...values].map((value) => ({ value, partition: 0 })) });
  await producer.disconnect();
  const consumer = kafka.consumer({ groupId: randomUUID() });
  await consumer.connect();
  await consumer.subscribe({ topics: [c.topic], fromBeginning: true });
  let read = 0;
  await new Promise((done) => {
    const late = setTimeout(done, 60000);
    consumer.run({
      eachMessage: async ({ message }) => {
        if (values.delete(message.value.toString())) read++;
        if (values.size === 0) {
          clearTimeout(late);
          done();
        }
      },
    });
  });
  await consumer.disconnect();
  return read;
}

async function main() {
  const lines = fs.readFileSync(0, "utf8").split("\n").filter((l) => l);
  for (const line of lines) {
    const c = JSON.parse(line);
    const answer = { name: c.name, read: 0, error: "" };
    try {
      answer.read = await round(c);
    } catch (e) {
      answer.error = `${e.name}: ${e.message}`;
    }
    process.stdout.write(JSON.stringify(answer) + "\n");
  }
}

main().then(
  () => process.exit(0),
  (e) => {
    process.stderr.write(`${e.stack}\n`);
    process.exit(1);
  },
);
