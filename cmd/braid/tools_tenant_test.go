package main

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/braidstream/braid/internal/clients/tools"
)

// toolsOfATenant has the super user of a tenant administer it by Kafka's own tools alone: who else may sign on, what they
// may do, and how much of it.
func toolsOfATenant(t *testing.T, up *running, java *tools.Tools, file func(name, text string) string) {
	bootstrap := up.ready.Nodes[0].Listeners["teams"]
	up.must("tenant", "create", "acme")
	up.must("tenant", "create", "globex")
	up.must("user", "add", "alice", "--tenant", "acme", "--password-file", file("alice", "alice-secret"))
	up.must("tenant", "set", "acme", "--super-users", "User:alice")
	config := func(user, as string) string {
		return file(user+".properties", fmt.Sprintf("security.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-256\n"+
			"sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username=%q password=\"%s-secret\";\n", as, user))
	}
	// The operator gave alice her bare name; whom she makes signs on with the tenant behind the name.
	alice, bob := config("alice", "alice"), config("bob", "bob@acme")
	const acls, configs, topics = "kafka-acls", "kafka-configs", "kafka-topics"
	for i, c := range []struct {
		tool, as, args string
		code           int
		want           []string
		not            string
	}{
		{topics, alice, "--create --topic orders --partitions 1", 0, []string{`Created topic orders`}, ""},
		{topics, alice, "--create --topic orders-eu --partitions 1", 0, nil, ""},

		{configs, alice, "--alter --entity-type users --entity-name bob --add-config SCRAM-SHA-256=[iterations=4096,password=bob-secret]", 0, []string{`Completed updating config for user bob`}, ""},
		{configs, alice, "--describe --entity-type users --entity-name bob", 0, []string{`SCRAM credential configs for user-principal 'bob' are SCRAM-SHA-256=iterations=4096`}, "secret"},
		{configs, alice, "--alter --entity-type users --entity-name carol --add-config SCRAM-SHA-512=[password=carol-secret]", 0, nil, ""},
		{configs, alice, "--alter --entity-type users --entity-name carol --delete-config SCRAM-SHA-512", 0, nil, ""},
		{configs, alice, "--alter --entity-type users --entity-name weak --add-config SCRAM-SHA-256=[iterations=1024,password=x]", 1, []string{`terations`}, ""},

		{topics, bob, "--describe --topic orders", 1, []string{`does not exist`}, ""},
		{acls, alice, "--add --allow-principal User:bob --producer --topic orders", 0, []string{`principal=User:bob, host=\*, operation=WRITE, permissionType=ALLOW`}, ""},
		{acls, alice, "--add --allow-principal User:bob --consumer --topic orders --resource-pattern-type prefixed --group readers", 0, []string{`patternType=PREFIXED`, `GROUP`}, ""},
		{acls, alice, "--add --deny-principal User:bob --deny-host 10.0.0.7 --operation Delete --topic orders", 0, nil, ""},
		{acls, alice, "--list --topic orders", 0, []string{`patternType=LITERAL`, `host=10\.0\.0\.7, operation=DELETE, permissionType=DENY`}, ""},
		{acls, alice, "--list --principal User:bob", 0, []string{`resourceType=GROUP, name=readers, patternType=PREFIXED`}, ""},
		{acls, bob, "--list", 1, []string{`ClusterAuthorizationException`}, ""},
		{acls, bob, "--add --allow-principal User:bob --operation All --topic *", 1, []string{`ClusterAuthorizationException`}, ""},
		{topics, bob, "--list", 0, []string{`(?m)^orders$`, `(?m)^orders-eu$`}, ""},
		{"kafka-producer-perf-test", bob, "--topic orders --num-records 10 --record-size 100 --throughput -1", 0, []string{`10 records sent`}, ""},
		{"kafka-producer-perf-test", bob, "--topic orders-eu --num-records 1 --record-size 100 --throughput -1", 0, []string{`TopicAuthorizationException`}, ""},
		{topics, bob, "--delete --topic orders", 1, []string{`TopicAuthorizationException|not authorized`}, ""},
		{acls, alice, "--remove --force --allow-principal User:bob --operation Write --topic orders", 0, nil, ""},
		{acls, alice, "--list --topic orders --resource-pattern-type literal", 0, []string{`operation=CREATE`}, `User:bob, host=\*, operation=WRITE`},
		// A rule that locks everybody out, and nothing of the request is done. It is of one resource: the tool asks for each
		// by a request of its own, in the order of a hash table.
		{acls, alice, "--add --deny-principal User:* --operation All --operation Describe --topic *", 1, []string{`PolicyViolationException: refused: it would deny everybody`}, ""},
		{acls, alice, "--list", 0, nil, `name=\*|User:\*`},
		{topics, alice, "--list", 0, []string{`(?m)^orders$`}, ""}, // super users are bound by none

		{configs, alice, "--alter --entity-type users --entity-name bob --add-config producer_byte_rate=1024,consumer_byte_rate=2048,request_percentage=50,controller_mutation_rate=3", 0, []string{`Completed updating config for user bob`}, ""},
		{configs, alice, "--describe --entity-type users --entity-name bob", 0, []string{`producer_byte_rate=1024\.0`, `consumer_byte_rate=2048\.0`, `request_percentage=50\.0`, `controller_mutation_rate=3\.0`}, ""},
		{configs, alice, "--alter --entity-type users --entity-name bob --entity-type clients --entity-name batch --add-config producer_byte_rate=512", 0, nil, ""},
		{configs, alice, "--describe --entity-type users --entity-name bob --entity-type clients --entity-name batch", 0, []string{`client-id 'batch'.*producer_byte_rate=512\.0`}, ""},
		{configs, alice, "--alter --entity-type clients --entity-default --add-config consumer_byte_rate=9000", 0, nil, ""},
		{configs, alice, "--describe --entity-type clients --entity-default", 0, []string{`default client-id.*consumer_byte_rate=9000\.0`}, ""},
		{configs, alice, "--alter --entity-type ips --entity-name 10.0.0.8 --add-config connection_creation_rate=5", 0, nil, ""},
		{configs, alice, "--describe --entity-type ips --entity-name 10.0.0.8", 0, []string{`connection_creation_rate=5\.0`}, ""},
		{configs, alice, "--alter --entity-type users --entity-name bob --add-config producer_byte_rate=-1", 1, []string{`InvalidRequestException|must be`}, ""},
		{configs, alice, "--alter --entity-type users --entity-name bob --add-config no_such_rate=1", 1, []string{`no_such_rate|Unknown`}, ""},
		{configs, alice, "--alter --entity-type users --entity-name bob --delete-config consumer_byte_rate", 0, nil, ""},
		{configs, alice, "--describe --entity-type users --entity-name bob", 0, []string{`producer_byte_rate=1024\.0`}, "consumer_byte_rate"},
		{configs, bob, "--describe --entity-type users", 1, []string{`ClusterAuthorizationException`}, ""},

		{"kafka-delegation-tokens", alice, "--describe", 1, []string{`UnsupportedVersionException|DelegationToken`}, ""},
	} {
		args := strings.Fields(c.args)
		credentials := "--command-config"
		args = append([]string{"--bootstrap-server", bootstrap, credentials, c.as}, args...)
		out, code := java.Run(c.tool, args...)
		wrong := code != c.code || c.not != "" && regexp.MustCompile(c.not).MatchString(out)
		for _, want := range c.want {
			wrong = wrong || !regexp.MustCompile(want).MatchString(out)
		}
		if wrong {
			t.Errorf("%d: %s %s: exit code %d, want %d and %q, not %q:\n%s", i, c.tool, c.args, code, c.code, c.want, c.not, out)
		}
	}
	// Nothing of it is another tenant's, and what the tools did is what the command line shows.
	if out := up.must("acl", "list", "--tenant", "globex", "-o", "json"); strings.Contains(out, "bob") {
		t.Errorf("rules of another tenant: %s", out)
	}
	if out := up.must("user", "list", "--tenant", "acme", "-o", "json"); !strings.Contains(out, "bob") || strings.Contains(out, "carol") || strings.Contains(out, "weak") {
		t.Errorf("users: %s", out)
	}
	if out := up.must("quota", "list", "--tenant", "acme", "-o", "json"); !strings.Contains(out, "1024") || !strings.Contains(out, "batch") {
		t.Errorf("quotas: %s", out)
	}
}
