package gateway

// AlterUserScramCredentials, key 51, version 0.
//
// Like Apache Kafka: the client salts the password; 4096 to 16384 iterations; of
// a user with any change that cannot be, none is made.
//
// Differences: a salt or a salted password of a size that cannot be right, and
// names that cannot be told from another when they are shown (control and invisible
// characters, white space but single blanks inside, "*", ANONYMOUS), are
// UNACCEPTABLE_CREDENTIAL, and so is a user more than a tenant may have. A new user signs
// on as NAME@TENANT at listeners without a tenant, unless there is no tenant but default
// (docs/security.md). A user whose last credential is removed is gone; the last user who
// has a password and may change the rules stays (POLICY_VIOLATION). Who signs on with what
// was changed is signed off within seconds.

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/tenant/rules"
	"github.com/braidstream/braid/tenant/sasl"
	"github.com/braidstream/braid/wire"
)

// UserAdmin keeps users. Calls may take a while and are made concurrently;
// [catalog.Catalog] is one.
type UserAdmin interface {
	User(ctx context.Context, tenant, name string) (catalog.User, error)
	PutUser(ctx context.Context, u catalog.User) (catalog.User, error)
}

// credentialChanges are those of one user, by mechanism; nil removes one.
type credentialChanges struct {
	name string
	to   map[string]*catalog.Scram
	err  error // found while the request was read
}

func (c *credentialChanges) add(number int8, to *catalog.Scram, err error) {
	mechanism := ""
	for m, n := range scramNumbers {
		if n == number {
			mechanism = m
		}
	}
	switch _, twice := c.to[mechanism]; {
	case c.err != nil:
	case c.name == "":
		c.err = unacceptable("Username must not be empty")
	case to != nil && catalog.CheckUserName(c.name) != nil: // who is there may go, whatever the name
		c.err = unacceptable("Username is not acceptable: " + catalog.CheckUserName(c.name).Error())
	case mechanism == "":
		c.err = &span.RejectedError{Code: wire.UnsupportedSASLMechanism, Detail: "Unknown SCRAM mechanism"}
	case twice:
		c.err = &span.RejectedError{Code: wire.DuplicateResource, Detail: "A user credential cannot be altered twice in the same request"}
	default:
		c.err = err
		c.to[mechanism] = to
	}
}

func unacceptable(text string) error {
	return &span.RejectedError{Code: wire.UnacceptableCredential, Detail: text}
}

func alterUserScramCredentials(call *call, req *kmsg.AlterUserSCRAMCredentialsRequest) kmsg.Response {
	by := map[string]*credentialChanges{}
	var order []*credentialChanges
	of := func(name string) *credentialChanges {
		if by[name] == nil {
			by[name] = &credentialChanges{name: name, to: map[string]*catalog.Scram{}}
			order = append(order, by[name])
		}
		return by[name]
	}
	for i := range req.Deletions {
		of(req.Deletions[i].Name).add(req.Deletions[i].Mechanism, nil, nil)
	}
	for i := range req.Upsertions {
		c, err := credentialOf(&req.Upsertions[i])
		of(req.Upsertions[i].Name).add(req.Upsertions[i].Mechanism, &c, err)
	}
	resp := kmsg.NewPtrAlterUserSCRAMCredentialsResponse()
	denied := call.onCluster(acl.Alter)
	resp.Results = make([]kmsg.AlterUserSCRAMCredentialsResponseResult, len(order))
	var room atomic.Int64 // for new users; requests at the same moment may each find it
	room.Store(int64(call.g.cfg.MaxUsers - len(call.g.watcher.Snapshot().Users(call.tenant))))
	locks := call.lockouts(order)
	each(len(order), func(i int) {
		r := kmsg.NewAlterUserSCRAMCredentialsResponseResult()
		r.User = order[i].name
		err := order[i].err
		if denied != wire.None {
			err = denied
		}
		if err == nil {
			err = locks(order[i])
		}
		if err == nil {
			err = call.change(order[i], &room)
		}
		if err != nil {
			r.ErrorCode, r.ErrorMessage = call.refusal(err)
		}
		resp.Results[i] = r
	})
	// So that the next request on this connection sees the change.
	call.g.fresh.refresh(call.ctx)
	return resp
}

// lockouts tells of a request's changes which would take away the last user with a password who may change the rules;
// all users who go by the same request are gone then. That is by what this gateway knows; the removal itself looks again.
func (call *call) lockouts(order []*credentialChanges) func(*credentialChanges) error {
	s := call.g.watcher.Snapshot()
	going := map[string]bool{}
	for _, c := range order {
		if c.err != nil {
			continue
		}
		if u := s.User(call.tenant, c.name); u != nil {
			left := maps.Clone(u.Credentials)
			for m, to := range c.to {
				if to == nil {
					delete(left, m)
				} else if left != nil {
					left[m] = *to
				}
			}
			going[c.name] = len(left) == 0
		}
	}
	return func(c *credentialChanges) error {
		if !going[c.name] || call.c.rules == nil {
			return nil
		}
		err := call.c.rules.LastAdmin(c.name, func(name string) bool {
			u := s.User(call.tenant, name)
			return u != nil && len(u.Credentials) > 0 && !going[name]
		})
		if err != nil {
			return &span.RejectedError{Code: wire.PolicyViolation, Detail: err.Error()}
		}
		return nil
	}
}

// credentialOf makes a credential of what a client salted.
func credentialOf(u *kmsg.AlterUserSCRAMCredentialsRequestUpsertion) (catalog.Scram, error) {
	size := map[int8]int{1: 32, 2: 64}[u.Mechanism]
	switch {
	case size == 0:
		return catalog.Scram{}, nil // the mechanism is refused
	case u.Iterations < sasl.MinIterations:
		return catalog.Scram{}, unacceptable("Too few iterations")
	case u.Iterations > sasl.MaxIterations:
		return catalog.Scram{}, unacceptable("Too many iterations")
	case len(u.SaltedPassword) != size:
		return catalog.Scram{}, unacceptable("The salted password is of another size than the mechanism's hash")
	case len(u.Salt) == 0 || len(u.Salt) > maxSalt:
		return catalog.Scram{}, unacceptable("The salt is empty or too long")
	}
	mechanism := sasl.ScramSHA256
	if u.Mechanism == 2 {
		mechanism = sasl.ScramSHA512
	}
	return sasl.FromSalted(mechanism, u.Salt, u.SaltedPassword, int(u.Iterations))
}

const maxSalt = 256

// change makes a user's changes, all or none.
func (call *call) change(c *credentialChanges, room *atomic.Int64) error {
	ctx, cancel := call.limited(0)
	defer cancel()
	counted := false
	for {
		u, err := call.g.opts.Users.User(ctx, call.tenant, c.name)
		if errors.Is(err, catalog.ErrNotFound) {
			u, err = catalog.User{Tenant: call.tenant, Name: c.name, Bare: catalog.BareNone}, nil
			if call.g.watcher.Snapshot().Alone(call.tenant, c.name) {
				u.Bare = catalog.BareClaimed
			}
		}
		if err != nil {
			return err
		}
		if u.Revision == 0 && !counted {
			if counted = true; room.Add(-1) < 0 {
				return unacceptable(fmt.Sprintf("There are %d users, and no more may be added", call.g.cfg.MaxUsers))
			}
		}
		next := u
		if next.Credentials = maps.Clone(u.Credentials); next.Credentials == nil {
			next.Credentials = map[string]catalog.Scram{}
		}
		for _, m := range slices.Sorted(maps.Keys(c.to)) {
			if to := c.to[m]; to != nil {
				next.Credentials[m] = *to
				continue
			}
			if _, there := next.Credentials[m]; !there {
				return &span.RejectedError{Code: wire.ResourceNotFound, Detail: "Attempt to delete a user credential that does not exist"}
			}
			delete(next.Credentials, m)
		}
		if len(next.Credentials) == 0 {
			err = call.g.rules.DeleteUser(ctx, u.Tenant, u.Name, u.Revision, rules.Options{})
		} else {
			_, err = call.g.opts.Users.PutUser(ctx, next)
		}
		// Somebody else changed the user at the same time: looked at again.
		if errors.Is(err, catalog.ErrConflict) || errors.Is(err, catalog.ErrExists) {
			if ctx.Err() == nil {
				continue
			}
		}
		return err
	}
}
