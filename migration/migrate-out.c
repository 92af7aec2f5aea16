/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sending the machine's state: the commands around it.  Main thread. */
#include "migrate-int.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-migrate.h"

void coroutine_fn qmp_migrate(const char *uri, bool has_channels, MigrationChannelList *channels,
                              bool has_detach, bool detach, GError **errp)
{
    MigrationAddress *addr = migrate_addr_choose(uri, channels, false, errp);

    if (addr) {
        error_setg(errp, "Migration by '%s' is not supported",
                   MigrationAddressType_str(addr->transport));
        qapi_free_MigrationAddress(addr);
    }
}

void coroutine_fn qmp_migrate_cancel(GError **errp)
{
}

void coroutine_fn qmp_migrate_continue(MigrationStatus state, GError **errp)
{
    error_setg(errp, "Migration not in expected state: %s",
               MigrationStatus_str(migrate_status()));
}
