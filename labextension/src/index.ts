import { promptPlugin } from './prompt';

export default [promptPlugin];
