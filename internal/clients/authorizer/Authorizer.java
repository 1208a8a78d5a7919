import java.io.BufferedReader;
import java.io.BufferedWriter;
import java.io.InputStreamReader;
import java.io.OutputStreamWriter;
import java.net.InetAddress;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.metrics.Metrics;
import org.apache.kafka.common.metrics.internals.PluginMetricsImpl;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;
import org.apache.kafka.common.security.auth.KafkaPrincipal;
import org.apache.kafka.common.security.auth.SecurityProtocol;
import org.apache.kafka.metadata.authorizer.StandardAcl;
import org.apache.kafka.metadata.authorizer.StandardAuthorizer;
import org.apache.kafka.server.authorizer.Action;
import org.apache.kafka.server.authorizer.AuthorizableRequestContext;
import org.apache.kafka.server.authorizer.AuthorizationResult;

/**
 * Answers with Kafka's own authorizer. Lines of the input are fields separated by tabs:
 * R superUsers lenient begins a rule set, A adds a rule to it, Q and T ask; each question is answered
 * by a line, 1 for allowed.
 */
public class Authorizer {
    record Context(KafkaPrincipal principal, InetAddress clientAddress) implements AuthorizableRequestContext {
        public String listenerName() { return "client"; }
        public SecurityProtocol securityProtocol() { return SecurityProtocol.SASL_SSL; }
        public int requestType() { return 3; }
        public int requestVersion() { return 9; }
        public String clientId() { return "asker"; }
        public int correlationId() { return 1; }
    }

    public static void main(String[] argv) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        BufferedWriter out = new BufferedWriter(new OutputStreamWriter(System.out, StandardCharsets.UTF_8));
        Map<Uuid, StandardAcl> rules = new HashMap<>();
        Map<String, Object> config = new HashMap<>();
        StandardAuthorizer authorizer = new StandardAuthorizer();
        authorizer.withPluginMetrics(new PluginMetricsImpl(new Metrics(), Map.of()));
        authorizer.completeInitialLoad();
        boolean loaded = false;
        long id = 0;
        for (String line; (line = in.readLine()) != null;) {
            String[] f = line.split("\t", -1);
            if (f[0].equals("R")) {
                rules.clear();
                config.clear();
                config.put(StandardAuthorizer.SUPER_USERS_CONFIG, f[1]);
                config.put(StandardAuthorizer.ALLOW_EVERYONE_IF_NO_ACL_IS_FOUND_CONFIG, f[2]);
                loaded = false;
                continue;
            }
            if (f[0].equals("A")) {
                rules.put(new Uuid(1, ++id), new StandardAcl(ResourceType.valueOf(f[1]), f[2], PatternType.valueOf(f[3]), f[4], f[5],
                    AclOperation.valueOf(f[6]), AclPermissionType.valueOf(f[7])));
                continue;
            }
            if (!loaded) {
                authorizer.configure(config);
                authorizer.loadSnapshot(rules);
                loaded = true;
            }
            int colon = f[1].indexOf(':');
            Context who = new Context(new KafkaPrincipal(f[1].substring(0, colon), f[1].substring(colon + 1)), InetAddress.getByName(f[2]));
            AclOperation operation = AclOperation.valueOf(f[3]);
            ResourceType type = ResourceType.valueOf(f[4]);
            AuthorizationResult result;
            if (f[0].equals("T")) {
                result = authorizer.authorizeByResourceType(who, operation, type);
            } else {
                result = authorizer.authorize(who, List.of(new Action(operation,
                    new ResourcePattern(type, f[5], PatternType.LITERAL), 1, false, false))).get(0);
            }
            out.write(result == AuthorizationResult.ALLOWED ? "1\n" : "0\n");
        }
        out.flush();
    }
}
