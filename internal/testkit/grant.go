package testkit

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Grant makes ACLs and waits until the broker that is asked enforces them: the controllers, who
// answer the request, tell the brokers later.
func Grant(t testing.TB, admin *kadm.Client, acls *kadm.ACLBuilder) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	made, err := admin.CreateACLs(ctx, acls)
	for _, m := range made {
		err = errors.Join(err, m.Err)
	}
	if err != nil {
		t.Fatalf("testkit: grant: %v", err)
	}
	err = poll(ctx, func() error {
		results, err := admin.DescribeACLs(ctx, acls)
		for _, r := range results {
			if err = errors.Join(err, r.Err); err == nil && len(r.Described) == 0 {
				err = errors.New("not enforced yet")
			}
		}
		return err
	})
	if err != nil {
		t.Fatalf("testkit: grant: %v", err)
	}
}
