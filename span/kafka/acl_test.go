package kafka_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/kafka"
)

// TestGrants: what a store may do with few grants, and what it says where one lacks.
func TestGrants(t *testing.T) {
	c := testkit.Kafka(t, testkit.PlainUsers(map[string]string{"admin": "a", "braid": "b", "nobody": "n"}))
	as := func(user, password string) func(*kafka.Options) {
		t.Setenv("BRAID_TEST_"+user, password)
		return func(o *kafka.Options) {
			o.Config = map[string]string{"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN",
				"sasl.username": user, "sasl.password": "env:BRAID_TEST_" + user}
		}
	}
	admin := kadm.NewClient(c.Client(t, kgo.SASL(plain.Auth{User: "admin", Pass: "a"}.AsMechanism())))
	grant := func(ops ...kadm.ACLOperation) {
		t.Helper()
		acls := kadm.NewACLs().Allow("User:braid").AllowHosts("*").Topics("braid.").ResourcePatternType(kadm.ACLPatternPrefixed).Operations(ops...)
		testkit.Grant(t, admin, acls)
	}
	grant(kmsg.ACLOperationCreate, kmsg.ACLOperationRead, kmsg.ACLOperationWrite, kmsg.ACLOperationDescribe, kmsg.ACLOperationDelete)

	nobody := open(t, c, as("nobody", "n"))
	if _, err := nobody.Create(t.Context(), span.Spec{Name: topicName(), Partitions: 1}); !errors.Is(err, span.ErrDenied) {
		t.Errorf("create without a grant: %v", err)
	}

	s := open(t, c, as("braid", "b"))
	topic := create(t, s, 2, nil)
	log := s.Log(topic, 0)
	defer log.Release()
	if a := appendSync(t, log, oneBatch(t, 1, "v")); a.Err != nil {
		t.Fatal(a.Err)
	}
	other := nobody.Log(topic, 0)
	defer other.Release()
	if a := appendSync(t, other, oneBatch(t, 1, "v")); !errors.Is(a.Err, span.ErrDenied) && !errors.Is(a.Err, span.ErrGone) {
		t.Errorf("append without a grant: %v", a.Err)
	}
	if h, err := s.Health(t.Context()); err != nil || h.CanSeal || !h.Writable {
		t.Errorf("health without ALTER_CONFIGS: %+v %v", h, err)
	}
	if _, err := s.Seal(t.Context(), topic); !errors.Is(err, span.ErrCannotSeal) {
		t.Errorf("seal without ALTER_CONFIGS: %v", err)
	}
	if a := appendSync(t, log, oneBatch(t, 1, "v")); a.Err != nil {
		t.Errorf("after a seal that was not granted: %v", a.Err)
	}
	grant(kmsg.ACLOperationAlterConfigs)
	// A grant takes a moment to reach the broker, and what was denied is remembered for a while.
	waitFor(t, "the grant", func() bool {
		ends, err := s.Seal(t.Context(), topic)
		return err == nil && ends[0].End == 2
	})
	again := open(t, c, as("braid", "b"))
	if h, err := again.Health(t.Context()); err != nil || !h.CanSeal {
		t.Errorf("health with ALTER_CONFIGS: %+v %v", h, err)
	}
	if a := appendSync(t, log, oneBatch(t, 1, "v")); !errors.Is(a.Err, span.ErrSealed) {
		t.Errorf("after the seal: %v", a.Err)
	}
}

// TestOAuthBearer signs on with an unsecured token, as a broker takes in its default setup.
func TestOAuthBearer(t *testing.T) {
	const l = "listener.name.client."
	const module = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required "
	c := testkit.Kafka(t, testkit.ClientProtocol("SASL_PLAINTEXT"),
		testkit.Property("sasl.enabled.mechanisms", "OAUTHBEARER"), testkit.Property(l+"sasl.enabled.mechanisms", "OAUTHBEARER"),
		testkit.Property(l+"oauthbearer.sasl.jaas.config", module+`unsecuredLoginStringClaim_sub="broker";`))
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	now := time.Now().Unix()
	t.Setenv("BRAID_TEST_TOKEN", part(`{"alg":"none"}`)+"."+part(fmt.Sprintf(`{"sub":"braid","iat":%d,"exp":%d}`, now, now+3600))+".")
	t.Setenv("BRAID_TEST_OLD_TOKEN", part(`{"alg":"none"}`)+"."+part(fmt.Sprintf(`{"sub":"braid","iat":%d,"exp":%d}`, now-7200, now-3600))+".")
	config := map[string]string{"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "OAUTHBEARER", "sasl.oauthbearer.token": "env:BRAID_TEST_TOKEN"}
	roundTrip(t, c, config)
	config["sasl.oauthbearer.token"] = "env:BRAID_TEST_OLD_TOKEN"
	refused(t, c, config)
}

// TestCoalescing: appends to many partitions share requests, and each lands where it belongs.
func TestCoalescing(t *testing.T) {
	c := testkit.Shared(t)
	s := open(t, c)
	const partitions, topics, count = 20, 3, 30
	var streams []*numbered
	var logs []span.Log
	for range topics {
		topic := create(t, s, partitions, nil)
		for p := range partitions {
			l := s.Log(topic, int32(p))
			defer l.Release()
			logs = append(logs, l)
			streams = append(streams, startNumbered(t, l, p, "x", 1<<41+int64(len(streams)), count))
		}
	}
	for i, st := range streams {
		st.wg.Wait()
		values, _ := readAll(t, logs[i], 0)
		if len(values) != count {
			t.Errorf("partition %d holds %d", i, len(values))
		}
		st.check(values)
	}
	stats := s.Stats()
	t.Logf("%d batches in %d requests", stats.Batches, stats.Requests)
	if stats.Requests*2 > stats.Batches {
		t.Errorf("%d batches took %d requests", stats.Batches, stats.Requests)
	}
}
