import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.WakeupException;

/** The Java family. The contract of all client programs is in the Go package's doc.go. */
public final class Client {
    private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    public static void main(String[] args) throws Exception {
        Map<String, String> flags = new HashMap<>();
        for (int i = 1; i + 1 < args.length; i += 2) {
            flags.put(args[i].substring(2), args[i + 1]);
        }
        Properties p = new Properties();
        p.put("bootstrap.servers", flags.get("bootstrap"));
        switch (args.length == 0 ? "" : args[0]) {
            case "produce" -> produce(flags, p);
            case "consume" -> consume(flags, p);
            default -> {
                System.err.println("usage: produce|consume --flag value ...");
                System.exit(2);
            }
        }
    }

    private static void produce(Map<String, String> flags, Properties p) throws InterruptedException {
        p.put("acks", "all");
        p.put("enable.idempotence", "true");
        p.put("key.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        p.put("value.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        long count = Long.parseLong(flags.get("count"));
        long rate = Long.parseLong(flags.get("rate"));
        int partitions = Integer.parseInt(flags.get("partitions"));
        boolean[] failed = {false};
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(p)) {
            long start = System.nanoTime();
            for (long i = 0; i < count; i++) {
                if (rate > 0) {
                    long due = i * 1_000_000_000L / rate - (System.nanoTime() - start);
                    if (due > 0) {
                        Thread.sleep(due / 1_000_000, (int) (due % 1_000_000));
                    }
                }
                int partition = (int) (i % partitions);
                String value = flags.get("producer") + "/" + partition + "/" + i / partitions;
                producer.send(new ProducerRecord<>(flags.get("topic"), partition, null, value), (m, e) -> {
                    if (e != null) {
                        failed[0] = true;
                        System.err.println(value + ": " + e);
                    } else {
                        record(m.partition(), m.offset(), value);
                    }
                });
            }
            producer.flush();
        }
        if (failed[0]) {
            System.exit(1);
        }
    }

    private static void record(int partition, long offset, String value) {
        OUT.println("{\"partition\":" + partition + ",\"offset\":" + offset + ",\"value\":\"" + value + "\"}");
    }

    private static void consume(Map<String, String> flags, Properties p) throws InterruptedException {
        p.put("group.id", flags.get("group"));
        p.put("auto.offset.reset", "earliest");
        if (flags.containsKey("protocol")) {
            p.put("group.protocol", flags.get("protocol"));
        }
        p.put("key.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        p.put("value.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        KafkaConsumer<String, String> consumer = new KafkaConsumer<>(p);
        Thread main = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            consumer.wakeup();
            try {
                main.join();
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
            // A JVM that a signal ended reports the signal; the contract says 0.
            Runtime.getRuntime().halt(0);
        }));
        try (consumer) {
            consumer.subscribe(List.of(flags.get("topic")), new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> revoked) {}

                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> assigned) {
                    OUT.println(assigned.stream().map(t -> "" + t.partition())
                        .collect(Collectors.joining(",", "{\"assigned\":[", "]}")));
                }
            });
            while (true) {
                consumer.poll(Duration.ofSeconds(1)).forEach(r -> record(r.partition(), r.offset(), r.value()));
            }
        } catch (WakeupException e) {
            // Asked to end: the consumer commits and leaves as it closes.
        }
    }
}
