package testkit

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestCredentialsByProperties(t *testing.T) {
	t.Parallel()
	c := Kafka(t, ClientProtocol("SASL_PLAINTEXT"),
		Property("sasl.enabled.mechanisms", "PLAIN"),
		Property("listener.name.client.plain.sasl.jaas.config",
			`org.apache.kafka.common.security.plain.PlainLoginModule required user_ann="secret";`),
		Property("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
		Property("super.users", "User:ann;User:ANONYMOUS"))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	login := func(password string) error {
		cl := c.Client(t, kgo.SASL(plain.Auth{User: "ann", Pass: password}.AsMechanism()), kgo.RequestRetries(0))
		_, err := kadm.NewClient(cl).ListTopics(ctx)
		return err
	}
	if err := login("secret"); err != nil {
		t.Fatal(err)
	}
	if err := login("guess"); err == nil {
		t.Fatal("logged in with a wrong password")
	}
	if err := c.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := login("secret"); err != nil {
		t.Fatal(err)
	}
}
