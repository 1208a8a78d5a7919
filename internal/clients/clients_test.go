package clients

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/braidstream/braid/internal/testkit"
)

func TestMain(m *testing.M) { os.Exit(testkit.Main(m)) }

func TestEachFamilyOnKafka(t *testing.T) {
	c := testkit.Shared(t)
	for i, f := range Families() {
		t.Run(string(f), func(t *testing.T) {
			topic := "family-" + string(f)
			c.CreateTopic(t, topic, 2)
			r := Run(t, f, Options{
				Bootstrap: c.Bootstrap(), Topic: topic, Partitions: 2, Producer: int32(i), Count: 301, Rate: 600,
				Timeout: 4 * time.Minute,
			})
			if !r.OK() || !r.Complete() || r.Acknowledged != 301 || r.Found != 301 || r.Polled < 301 {
				t.Fatalf("\n%s", &r)
			}
		})
	}
}

// A session whose records are harmed on their way says so: the driver does not look away.
func TestSessionNoticesALoss(t *testing.T) {
	c := testkit.Shared(t)
	c.CreateTopic(t, "loss", 1)
	s := testkit.NewSaboteur(t, c.Addrs()[0])
	s.Harm(testkit.Drop, "loss", 0)
	session := Start(t, Franz, Options{
		Bootstrap: s.Addr(), Topic: "loss", Partitions: 1, Count: 50, Rate: 200, Timeout: 4 * time.Minute,
	})
	// The one that is missing never comes: when all others have, the time is up.
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !session.seen(50, 49) && session.ctx.Err() == nil {
		<-tick.C
	}
	session.cancel()
	r, err := session.Wait()
	if err == nil || r.Lost.Count != 1 {
		t.Fatalf("%v\n%s", err, &r)
	}
}

// seen tells whether so many records were acknowledged and read.
func (s *Session) seen(acked, read int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.acked) == acked && len(s.read) == read
}

func TestSessionReportsAProgramThatFails(t *testing.T) {
	for _, f := range []Family{Confluent, "cobol"} {
		s, err := StartSession(t.Context(), f, Options{
			Bootstrap: "127.0.0.1:1", Topic: "none", Partitions: 1, Count: 1, Timeout: 500 * time.Millisecond,
		})
		if err == nil {
			_, err = s.Wait()
		}
		if err == nil {
			t.Fatalf("%s: no error", f)
		}
	}
	t.Setenv("BRAID_CACHE", t.TempDir())
	for _, f := range []Family{Java, KafkaJS, KafkaPython} {
		_, err := StartSession(t.Context(), f, Options{Partitions: 1, Count: 1})
		if !errors.Is(err, testkit.ErrNotInstalled) || !strings.Contains(err.Error(), "install-test-deps") {
			t.Fatalf("%s: %v", f, err)
		}
	}
}
