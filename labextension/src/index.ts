import { answersPlugin } from './answers';
import { commandsPlugin } from './commands';
import { panelPlugin } from './panel';
import { promptPlugin } from './prompt';
import { statusPlugin } from './status';

export default [promptPlugin, panelPlugin, statusPlugin, commandsPlugin, answersPlugin];
