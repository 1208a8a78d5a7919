package console

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/controller"
	"github.com/braidstream/braid/tenant"
)

// tenantOf is whose topics and operations a request is about.
func (s *Server) tenantOf(r *http.Request) (string, error) {
	name := r.URL.Query().Get("tenant")
	if name == "" {
		return catalog.DefaultTenant, nil
	}
	if snap := s.opts.Watcher.Snapshot(); snap.Tenant(name) == nil {
		return "", controller.UnknownTenant(snap, name)
	}
	return name, nil
}

func tenantView(t *catalog.Tenant, s *catalog.Snapshot, fleet string) api.Tenant {
	v := api.Tenant{Name: t.Name, DisplayName: t.DisplayName, ClusterID: t.ClusterID, State: string(t.State),
		Clusters: append([]string{}, t.Clusters...), Limits: map[string]int64{}, Defaults: map[string]string{}, Budget: map[string]float64{},
		SuperUsers: append([]string{}, t.SuperUsers...), AllowEveryone: t.Lenient,
		Users: len(s.Users(t.Name)), ACLs: len(s.ACLs(t.Name)), Quotas: len(s.Quotas(t.Name))}
	if t.Name == catalog.DefaultTenant && v.ClusterID == "" {
		v.ClusterID = fleet
	}
	if !t.DeleteAt.IsZero() {
		v.DeleteAt = &t.DeleteAt
	}
	if !t.Created.IsZero() {
		at := t.Created.UTC().Truncate(time.Second)
		v.Created = &at
	}
	for name, n := range map[string]int64{"topics": t.Limits.Topics, "partitions": t.Limits.Partitions, "groups": t.Limits.Groups,
		"connections": t.Limits.Connections, "storage.bytes": t.Limits.StorageBytes, "group.bytes": t.Limits.GroupBytes} {
		if n > 0 {
			v.Limits[name] = n
		}
	}
	maps.Copy(v.Defaults, t.Defaults)
	maps.Copy(v.Budget, t.Budget)
	for x := range s.Topics(t.Name) {
		v.Topics++
		v.Partitions += int(x.Partitions)
	}
	return v
}

func (s *Server) tenants(r *http.Request) (any, error) {
	snap, err := s.opts.Watcher.Refresh(r.Context())
	if err != nil {
		return nil, err
	}
	out := []api.Tenant{}
	for _, t := range snap.Tenants() {
		out = append(out, tenantView(t, snap, s.opts.Fleet))
	}
	return out, nil
}

func (s *Server) tenant(r *http.Request) (any, error) {
	snap, err := s.opts.Watcher.Refresh(r.Context())
	if err != nil {
		return nil, err
	}
	t := snap.Tenant(r.PathValue("tenant"))
	if t == nil {
		return nil, controller.UnknownTenant(snap, r.PathValue("tenant"))
	}
	return tenantView(t, snap, s.opts.Fleet), nil
}

// shown is the answer to a change of a tenant.
func (s *Server) shown(t catalog.Tenant, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return tenantView(&t, s.opts.Watcher.Snapshot(), s.opts.Fleet), nil
}

func tenantChange(req api.TenantSet) controller.TenantChange {
	return controller.TenantChange{DisplayName: req.DisplayName, Clusters: req.Clusters, Limits: req.Limits,
		Defaults: req.Defaults, Budget: req.Budget, SuperUsers: req.SuperUsers, Lenient: req.AllowEveryone, Force: req.Force}
}

func (s *Server) createTenant(r *http.Request) (any, error) {
	req, err := body[api.TenantSet](r)
	if err != nil {
		return nil, err
	}
	return s.shown(s.opts.Admin.CreateTenant(r.Context(), req.Name, tenantChange(req)))
}

func (s *Server) setTenant(r *http.Request) (any, error) {
	req, err := body[api.TenantSet](r)
	if err != nil {
		return nil, err
	}
	name := r.PathValue("tenant")
	if req.Name != "" && req.Name != name {
		return nil, invalid("a tenant's name does not change")
	}
	return s.shown(s.opts.Admin.SetTenant(r.Context(), name, tenantChange(req)))
}

func (s *Server) deleteTenant(r *http.Request) (any, error) {
	grace := controller.DefaultGrace
	if q := r.URL.Query().Get("grace"); q != "" {
		var err error
		if grace, err = time.ParseDuration(q); err != nil {
			return nil, invalid("grace: " + err.Error())
		}
	}
	return s.shown(s.opts.Admin.DeleteTenant(r.Context(), r.PathValue("tenant"), grace))
}

func (s *Server) undeleteTenant(r *http.Request) (any, error) {
	return s.shown(s.opts.Admin.UndeleteTenant(r.Context(), r.PathValue("tenant")))
}

func userView(s *catalog.Snapshot, u *catalog.User, password string) api.User {
	return api.User{Tenant: u.Tenant, Name: u.Name, Mechanisms: append([]string{}, slices.Sorted(maps.Keys(u.Credentials))...),
		Created: u.CreatedAt, SignsOn: tenant.SignsOn(s, u), Password: password}
}

func (s *Server) users(r *http.Request) (any, error) {
	snap, err := s.opts.Watcher.Refresh(r.Context())
	if err != nil {
		return nil, err
	}
	name := r.PathValue("tenant")
	if snap.Tenant(name) == nil {
		return nil, controller.UnknownTenant(snap, name)
	}
	out := []api.User{}
	for _, u := range snap.Users(name) {
		out = append(out, userView(snap, u, ""))
	}
	return out, nil
}

func (s *Server) addUser(r *http.Request) (any, error) {
	req, err := body[api.UserAdd](r)
	if err != nil {
		return nil, err
	}
	u, password, err := s.opts.Admin.AddUser(r.Context(), r.PathValue("tenant"), req.Name, credentials(req))
	if err != nil {
		return nil, err
	}
	return userView(s.opts.Watcher.Snapshot(), &u, password), nil
}

func (s *Server) rotateUser(r *http.Request) (any, error) {
	req, err := body[api.UserAdd](r)
	if err != nil {
		return nil, err
	}
	u, password, err := s.opts.Admin.RotateUser(r.Context(), r.PathValue("tenant"), r.PathValue("user"), credentials(req))
	if err != nil {
		return nil, err
	}
	return userView(s.opts.Watcher.Snapshot(), &u, password), nil
}

func (s *Server) deleteUser(r *http.Request) (any, error) {
	force := false
	if text := r.URL.Query().Get("force"); text != "" {
		var err error
		if force, err = strconv.ParseBool(text); err != nil {
			return nil, &api.Error{Status: http.StatusBadRequest, Code: "invalid", Message: fmt.Sprintf("force is %.20q, not true or false", text)}
		}
	}
	return struct{}{}, s.opts.Admin.DeleteUser(r.Context(), r.PathValue("tenant"), r.PathValue("user"), force)
}

func credentials(req api.UserAdd) controller.Credentials {
	return controller.Credentials{Mechanism: req.Mechanism, Password: req.Password, Iterations: req.Iterations}
}

func invalid(message string) error {
	return &api.Error{Status: http.StatusBadRequest, Code: "invalid", Message: message}
}
