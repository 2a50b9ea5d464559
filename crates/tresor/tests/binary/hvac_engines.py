"""Every method of hvac's classes for `database`, `rabbitmq` and `ldap`, whose own suite has no test of them that runs here.

Called with an address, a token, and where the servers are, as JSON. Whether somebody is let in is asked by a line with the server,
the name and the password, and answered by a line `True` or `False`. What is not as it should be ends it with an error; so
does a method that was not called.
"""

import inspect
import json
import sys

import hvac

address, token, servers = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
client = hvac.Client(url=address, token=token)
called = {}


class Noted:
    """A class of hvac that notes which of its methods were called."""

    def __init__(self, name):
        self.name, self.api = name, getattr(client.secrets, name)
        own = vars(type(self.api))
        called[name] = {method: 0 for method, it in own.items() if inspect.isfunction(it) and method[0] != "_"}

    def __getattr__(self, method):
        called[self.name][method] += 1
        return getattr(self.api, method)


def lets_in(server, name, password):
    print(json.dumps([server, name, password]), flush=True)
    return {"True": True, "False": False}[input()]


def done(answer):
    """A write that answers nothing."""
    assert answer.status_code == 204, answer.text


def missing(ask, *arguments):
    try:
        ask(*arguments)
    except hvac.exceptions.InvalidPath:
        return
    raise AssertionError(f"{ask.__name__} {arguments} is there")


def leased(answer, seconds):
    """The data of an answer under a lease, which can be looked up and is renewable."""
    assert answer["lease_duration"] == seconds and answer["renewable"] is True, answer
    shown = client.sys.read_lease(answer["lease_id"])["data"]
    assert shown["id"] == answer["lease_id"] and 0 < shown["ttl"] <= seconds, shown
    return answer["data"], answer["lease_id"]


def database():
    api, here = Noted("database"), servers["database"]
    client.sys.enable_secrets_engine("database")
    url = f"postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{here['port']}/postgres?sslmode=disable"
    done(
        api.configure(
            "db",
            "postgresql-database-plugin",
            verify_connection=True,
            allowed_roles=["app", "fixed"],
            root_rotation_statements=["ALTER ROLE \"{{name}}\" PASSWORD '{{password}}'"],
            connection_url=url,
            username="keeper",
            password="keeper-pw",
        )
    )
    assert api.list_connections()["data"]["keys"] == ["db"]
    shown = api.read_connection("db")["data"]
    assert shown["plugin_name"] == "postgresql-database-plugin" and shown["allowed_roles"] == ["app", "fixed"], shown
    assert shown["connection_details"]["username"] == "keeper" and "keeper-pw" not in json.dumps(shown), shown
    done(api.reset_connection("db"))

    make = "CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'"
    done(
        api.create_role(
            "app",
            "db",
            [make],
            default_ttl="1h",
            max_ttl="24h",
            revocation_statements=['DROP ROLE IF EXISTS "{{name}}"'],
            rollback_statements=['DROP ROLE IF EXISTS "{{name}}"'],
            renew_statements=["ALTER ROLE \"{{name}}\" VALID UNTIL '{{expiration}}'"],
        )
    )
    role = api.read_role("app")["data"]
    assert (role["db_name"], role["creation_statements"], role["default_ttl"]) == ("db", [make], 3600), role
    assert api.list_roles()["data"]["keys"] == ["app"]
    made, lease = leased(api.generate_credentials("app"), 3600)
    assert lets_in("database", made["username"], made["password"])
    assert client.sys.renew_lease(lease, increment=7200)["lease_duration"] == 7200
    done(client.sys.revoke_lease(lease))

    done(
        api.create_static_role(
            "fixed", "db", "fixed", ["ALTER ROLE \"{{name}}\" PASSWORD '{{password}}'"], rotation_period=86400
        )
    )
    role = api.read_static_role("fixed")["data"]
    assert (role["username"], role["db_name"], role["rotation_period"]) == ("fixed", "db", 86400), role
    assert api.list_static_roles()["data"]["keys"] == ["fixed"]
    first = api.get_static_credentials("fixed")["data"]
    assert first["username"] == "fixed" and 0 < first["ttl"] <= 86400, first
    assert lets_in("database", "fixed", first["password"]) and not lets_in("database", "fixed", "fixed-pw")
    done(api.rotate_static_role_credentials("fixed"))
    second = api.get_static_credentials("fixed")["data"]
    assert lets_in("database", "fixed", second["password"]) and not lets_in("database", "fixed", first["password"])

    done(api.rotate_root_credentials("db"))
    assert not lets_in("database", "keeper", "keeper-pw")
    made, lease = leased(api.generate_credentials("app"), 3600)
    assert lets_in("database", made["username"], made["password"])
    done(client.sys.revoke_prefix("database/creds/app"))
    done(api.delete_static_role("fixed"))
    missing(api.read_static_role, "fixed")
    done(api.delete_role("app"))
    missing(api.read_role, "app")
    missing(api.list_roles)
    done(api.delete_connection("db"))
    missing(api.list_connections)


def rabbitmq():
    api, here = Noted("rabbitmq"), servers["rabbitmq"]
    client.sys.enable_secrets_engine("rabbitmq")
    done(api.configure(here["uri"], "guest", "guest", verify_connection=True))
    try:
        api.configure(here["uri"], "guest", "wrong", verify_connection=True)
        raise AssertionError("a wrong password is taken")
    except hvac.exceptions.InvalidRequest:
        pass
    done(api.configure_lease(1800, 3600))
    # What is not said it sends as empty texts.
    done(api.create_role("watch", tags="management"))
    rights = {"/": {"configure": "", "write": "", "read": ".*"}}
    topics = {"/": {"amq.topic": {"write": "", "read": "a"}}}
    done(api.create_role("app", tags="management", vhosts=json.dumps(rights), vhost_topics=json.dumps(topics)))
    role = api.read_role("app")["data"]
    assert (role["tags"], role["vhosts"], role["vhost_topics"]) == ("management", rights, topics), role
    for name in ["watch", "app"]:
        made, lease = leased(api.generate_credentials(name), 1800)
        assert lets_in("rabbitmq", made["username"], made["password"])
        done(client.sys.revoke_lease(lease))
        done(api.delete_role(name))
        missing(api.read_role, name)


def ldap():
    api, here = Noted("ldap"), servers["ldap"]
    client.sys.enable_secrets_engine("ldap")
    done(
        api.configure(
            binddn=here["manager"],
            bindpass=here["password"],
            url=here["url"],
            schema="openldap",
            userdn="ou=people,dc=example,dc=com",
            userattr="cn",
            connection_timeout=20,
            request_timeout="30s",
            starttls=True,
            insecure_tls=False,
            certificate=here["authority"],
        )
    )
    shown = api.read_config()["data"]
    assert (shown["binddn"], shown["url"], shown["starttls"]) == (here["manager"], here["url"], True), shown
    assert here["password"] not in json.dumps(shown), shown
    alice = "cn=alice,ou=people,dc=example,dc=com"
    done(api.create_or_update_static_role("alice", username="alice", dn=alice, rotation_period="24h"))
    role = api.read_static_role("alice")["data"]
    assert (role["username"], role["dn"], role["rotation_period"]) == ("alice", alice, 86400), role
    assert api.list_static_roles()["data"]["keys"] == ["alice"]
    first = api.generate_static_credentials("alice")["data"]
    assert (first["username"], first["dn"]) == ("alice", alice) and 0 < first["ttl"] <= 86400, first
    assert lets_in("ldap", alice, first["password"]) and not lets_in("ldap", alice, "alice's first")
    done(api.rotate_static_credentials("alice"))
    second = api.generate_static_credentials("alice")["data"]
    assert second["last_password"] == first["password"], second
    assert lets_in("ldap", alice, second["password"]) and not lets_in("ldap", alice, first["password"])
    done(api.rotate_root())
    assert not lets_in("ldap", here["manager"], here["password"])
    done(api.rotate_static_credentials("alice"))
    done(api.delete_static_role("alice"))
    missing(api.read_static_role, "alice")
    missing(api.list_static_roles)


for engine in [database, rabbitmq, ldap]:
    engine()
forgotten = {name: [method for method, times in methods.items() if not times] for name, methods in called.items()}
assert all(methods and not forgotten[name] for name, methods in called.items()), forgotten
print(json.dumps({name: len(methods) for name, methods in called.items()}))
