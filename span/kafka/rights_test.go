package kafka_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/span/kafka"
)

// TestRights: each right that a cluster does not grant is named, and what is asked changes nothing.
func TestRights(t *testing.T) {
	c := testkit.Kafka(t, testkit.PlainUsers(map[string]string{"admin": "a", "braid": "b"}))
	t.Setenv("BRAID_TEST_RIGHTS", "b")
	admin := kadm.NewClient(c.Client(t, kgo.SASL(plain.Auth{User: "admin", Pass: "a"}.AsMechanism())))
	s := open(t, c, func(o *kafka.Options) {
		o.Config = map[string]string{"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN",
			"sasl.username": "braid", "sasl.password": "env:BRAID_TEST_RIGHTS"}
	})
	missing := func() (out []string) {
		t.Helper()
		rights, err := s.Rights(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rights {
			if !r.Granted {
				out = append(out, r.Operation+" on "+r.Resource)
			}
		}
		return out
	}
	rest := []string{"DESCRIBE on topics braid.*", "CREATE on topics braid.*", "WRITE on topics braid.*", "READ on topics braid.*", "DELETE on topics braid.*",
		"ALTER on topics braid.*", "DESCRIBE_CONFIGS on topics braid.*", "ALTER_CONFIGS on topics braid.*", "WRITE on transactional ids __braid-*", "DESCRIBE on the cluster", "ALTER on the cluster"}
	if got := missing(); !slices.Equal(got, rest) {
		t.Fatalf("without any grant: %q", got)
	}
	grant := func(acls *kadm.ACLBuilder, gone ...string) {
		t.Helper()
		res, err := admin.CreateACLs(t.Context(), acls.Allow("User:braid").AllowHosts("*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range res {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		rest = slices.DeleteFunc(rest, func(r string) bool { return slices.Contains(gone, r) })
		var got []string
		defer func() {
			if t.Failed() {
				t.Logf("missing %q, want %q", got, rest)
			}
		}()
		waitFor(t, "the grant of "+strings.Join(gone, ", "), func() bool { got = missing(); return slices.Equal(got, rest) })
	}
	topics := func(ops ...kadm.ACLOperation) *kadm.ACLBuilder {
		return kadm.NewACLs().Topics("braid.").ResourcePatternType(kadm.ACLPatternPrefixed).Operations(ops...)
	}
	grant(topics(kmsg.ACLOperationWrite), "WRITE on topics braid.*", "DESCRIBE on topics braid.*")
	grant(topics(kmsg.ACLOperationRead, kmsg.ACLOperationCreate, kmsg.ACLOperationDelete), "READ on topics braid.*", "CREATE on topics braid.*", "DELETE on topics braid.*")
	grant(topics(kmsg.ACLOperationAlter, kmsg.ACLOperationAlterConfigs), "ALTER on topics braid.*", "ALTER_CONFIGS on topics braid.*", "DESCRIBE_CONFIGS on topics braid.*")
	grant(kadm.NewACLs().TransactionalIDs("__braid-").ResourcePatternType(kadm.ACLPatternPrefixed).Operations(kmsg.ACLOperationWrite), "WRITE on transactional ids __braid-*")
	grant(kadm.NewACLs().Clusters().ResourcePatternType(kadm.ACLPatternLiteral).Operations(kmsg.ACLOperationDescribe), "DESCRIBE on the cluster")
	grant(kadm.NewACLs().Clusters().ResourcePatternType(kadm.ACLPatternLiteral).Operations(kmsg.ACLOperationAlter), "ALTER on the cluster")
	list, err := admin.ListTopics(t.Context())
	if err != nil || len(list.Names()) != 0 {
		t.Errorf("topics %v, %v", list.Names(), err)
	}
}
