import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;

/**
 * Transactions of the Java producer: each writes three records to every topic, and every fourth is
 * aborted. Run from its source, so that nothing has to be built.
 */
public final class Transact {
    public static void main(String[] args) {
        Map<String, String> flags = new HashMap<>();
        for (int i = 0; i + 1 < args.length; i += 2) {
            flags.put(args[i].substring(2), args[i + 1]);
        }
        Properties p = new Properties();
        p.put("bootstrap.servers", flags.get("bootstrap"));
        p.put("transactional.id", flags.get("id"));
        p.put("transaction.timeout.ms", "30000");
        p.put("key.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        p.put("value.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        int count = Integer.parseInt(flags.get("count"));
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(p)) {
            producer.initTransactions();
            for (int i = 0; i < count; i++) {
                boolean abort = i % 4 == 3;
                producer.beginTransaction();
                for (int k = 0; k < 3; k++) {
                    for (String topic : flags.get("topics").split(",")) {
                        String value = (abort ? "aborted/" : "") + flags.get("id") + "/" + i + "/" + k;
                        producer.send(new ProducerRecord<>(topic, k % 2, null, value));
                    }
                }
                if (abort) {
                    producer.flush();
                    producer.abortTransaction();
                } else {
                    producer.commitTransaction();
                }
            }
        }
    }
}
